package native

import (
	"encoding/binary"

	"sfc/dataplane/packet"
)

// sum is a checksum that bytes of a packet are covered by.
type sum struct {
	at  []byte
	udp bool // 0 says that there is none
	// in is the checksum that covers this one: the sum of an ICMP error covers
	// those of the packet it quotes.
	in *sum
}

// put writes 16-bit words over old ones and corrects the sums that cover them.
func put(old, now []byte, covered ...*sum) {
	for ; len(old) > 0; old, now = old[2:], now[2:] {
		was, is := binary.BigEndian.Uint16(old), binary.BigEndian.Uint16(now)
		for _, s := range covered {
			s.change(was, is)
		}
		binary.BigEndian.PutUint16(old, is)
	}
}

// change corrects the sum after a word changed.
func (s *sum) change(was, is uint16) {
	if s == nil {
		return
	}
	old := binary.BigEndian.Uint16(s.at)
	now := packet.UpdateChecksum(old, was, is)
	if s.udp {
		now = packet.UpdateUDPChecksum(old, was, is)
	}
	binary.BigEndian.PutUint16(s.at, now)
	s.in.change(old, now)
}
