package daemon

import (
	"encoding/binary"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"sfc/dataplane/packet"
	"sfc/testbed/trafgen"
)

// blast puts datagrams to some ports on the client's link, at a rate. Their
// hardware address is nobody's, so that the server's kernel spends nothing on
// them.
type blast struct {
	frames [][]byte
	sent   atomic.Uint64
	stop   chan struct{}
	done   sync.WaitGroup
}

// sourcePorts is how many flows a blast has to each port.
const sourcePorts = 64

// blastBurst is how many frames go at a time: those of one burst of a worker.
const blastBurst = 64

// newBlast sends so many datagrams of 64 bytes a second, ports in turn, until it
// is ended.
func (b *bed) newBlast(perSecond float64, ports ...int) *blast {
	b.tb.Helper()
	s := &blast{stop: make(chan struct{})}
	for source := range sourcePorts {
		for _, port := range ports {
			s.frames = append(s.frames, datagram(40_000+source, port))
		}
	}
	for len(s.frames)%blastBurst != 0 {
		s.frames = append(s.frames, s.frames[:min(len(s.frames), blastBurst-len(s.frames)%blastBurst)]...)
	}
	out, err := trafgen.OpenSender(b.near[0])
	check(b.tb, err)
	s.done.Go(func() {
		defer out.Close()
		next := 0
		for start := time.Now(); ; {
			select {
			case <-s.stop:
				return
			default:
			}
			if due := time.Since(start).Seconds() * perSecond; due < float64(s.sent.Load()+blastBurst) {
				time.Sleep(20 * time.Microsecond)
				continue
			}
			n, err := out.Send(s.frames[next : next+blastBurst])
			if err != nil {
				b.tb.Error(err)
				return
			}
			s.sent.Add(uint64(n))
			next = (next + blastBurst) % len(s.frames)
		}
	})
	return s
}

// end ends it.
func (s *blast) end() {
	close(s.stop)
	s.done.Wait()
}

// datagram is a frame of 64 bytes, checksum of the link included.
func datagram(sport, dport int) []byte {
	f := make([]byte, 60)
	copy(f, net.HardwareAddr{2, 0, 0, 0, 0, 0x99})
	copy(f[6:], clientMAC)
	copy(f[12:], "\x08\x00\x45\x00\x00\x2e\x00\x00\x40\x00\x40\x11")
	copy(f[26:], net.ParseIP(clientAddress).To4())
	copy(f[30:], net.ParseIP(serverAddress).To4())
	binary.BigEndian.PutUint16(f[34:], uint16(sport))
	binary.BigEndian.PutUint16(f[36:], uint16(dport))
	f[39] = 26
	packet.SetChecksums(f)
	return f
}

// span is what happened while a blast went on.
type span struct {
	took    time.Duration
	offered uint64
	// Packets that chains sent on and those that tenants' shares cost, by
	// tenant/chain and tenant.
	sent, overShare map[string]uint64
	busy            map[string]time.Duration // by tenant; "" the worker's
}

// watch measures a time of traffic.
func (b *bed) watch(d time.Duration, blasts ...*blast) span {
	b.tb.Helper()
	read := func() (s span) {
		s.sent, s.overShare, s.busy = map[string]uint64{}, map[string]uint64{}, map[string]time.Duration{}
		all, err := b.api.Stats(b.tb.Context(), "")
		check(b.tb, err)
		for _, w := range all.Workers {
			s.busy[""] += time.Duration(w.BusyNs)
		}
		for _, c := range all.Chains {
			s.sent[c.Tenant+"/"+c.Name] = c.Sent
			s.sent[""] += c.Sent
		}
		for _, t := range all.Tenants {
			s.overShare[t.Name], s.busy[t.Name] = t.OverShare, time.Duration(t.BusyNs)
		}
		for _, bl := range blasts {
			s.offered += bl.sent.Load()
		}
		return s
	}
	before, start := read(), time.Now()
	time.Sleep(d)
	s := read()
	s.took = time.Since(start)
	s.offered -= before.offered
	for k := range s.sent {
		s.sent[k] -= before.sent[k]
	}
	for k := range s.overShare {
		s.overShare[k] -= before.overShare[k]
	}
	for k := range s.busy {
		s.busy[k] -= before.busy[k]
	}
	return s
}
