package scenario

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"sfc/dataplane/packet"
)

// timed is a packet of a scenario.
type timed struct {
	at    time.Duration // since the scenario began
	port  string        // that it comes out of, when said; else out
	frame []byte
	line  string // as written
}

// gap is the time between a packet and the next that names none.
const gap = time.Millisecond

// parsePackets reads packets in the notation of testdata/README.md, one a line.
func parsePackets(file string, text []byte) (list []timed, err error) {
	next, number := time.Duration(0), 0
	for line := range strings.Lines(string(text)) {
		number++
		line, _, _ = strings.Cut(line, "#")
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		p := timed{at: next, line: strings.Join(words, " ")}
		if at, ok := strings.CutPrefix(words[0], "@"); ok {
			if p.at, err = time.ParseDuration(at); err != nil {
				return nil, fmt.Errorf("%s:%d: %w", file, number, err)
			}
			if len(list) > 0 && p.at < list[len(list)-1].at {
				return nil, fmt.Errorf("%s:%d: %v is before the packet above", file, number, p.at)
			}
			words = words[1:]
		}
		if len(words) > 1 && words[0] == "at" {
			if p.port = words[1]; p.port != "in" && p.port != "out" {
				return nil, fmt.Errorf("%s:%d: %q is no port: it is in or out", file, number, p.port)
			}
			words = words[2:]
		}
		if p.frame, err = buildFrame(words); err != nil {
			return nil, fmt.Errorf("%s:%d: %w", file, number, err)
		}
		next = p.at + gap
		list = append(list, p)
	}
	return list, nil
}

// builder puts a frame together, outermost header first. The first error stops
// it.
type builder struct {
	words []string // not read yet
	frame []byte
	err   error

	typeAt  int         // where the EtherType of the next layer goes; 0: nowhere
	protoAt int         // where its protocol number goes; 0: nowhere
	lengths []func(int) // told the frame's length at the end
	badSum  bool
}

// layer returns what reads the layer that word begins, nil if it begins none.
func layer(word string) func(*builder) {
	return map[string]func(*builder){
		"eth": (*builder).eth, "vlan": (*builder).vlan, "qinq": (*builder).qinq, "arp": (*builder).arp,
		"ip": (*builder).ip, "hopopts": (*builder).hopopts, "dstopts": (*builder).dstopts, "fragment": (*builder).fragment,
		"tcp": (*builder).tcp, "udp": (*builder).udp, "icmp": (*builder).icmp, "icmp6": (*builder).icmp6,
		"dns": (*builder).dns, "payload": (*builder).payload, "bytes": (*builder).bytes, "badsum": (*builder).bad,
	}[word]
}

// buildFrame turns the words of one packet into a frame with right lengths and
// checksums.
func buildFrame(words []string) ([]byte, error) {
	if len(words) > 0 && words[0] == "hex" {
		return hex.DecodeString(strings.Join(words[1:], ""))
	}
	if len(words) > 0 && words[0] != "eth" {
		words = slices.Insert(slices.Clone(words), 0, "eth")
	}
	b := &builder{words: words}
	for b.err == nil && len(b.words) > 0 {
		read := layer(b.words[0])
		if read == nil {
			return nil, fmt.Errorf("%q begins no layer and is no part of the one before", b.words[0])
		}
		b.words = b.words[1:]
		read(b)
	}
	if b.err != nil {
		return nil, b.err
	}
	for _, set := range b.lengths {
		set(len(b.frame))
	}
	packet.SetChecksums(b.frame)
	if b.badSum {
		b.spoil()
	}
	return b.frame, b.err
}

func (b *builder) fail(format string, args ...any) {
	if b.err == nil {
		b.err = fmt.Errorf(format, args...)
	}
}

// word takes the next word; "" when there is none.
func (b *builder) word() string {
	if len(b.words) == 0 {
		b.fail("the line ends too early")
		return ""
	}
	w := b.words[0]
	b.words = b.words[1:]
	return w
}

// option takes the next word if it is name.
func (b *builder) option(name string) bool {
	if len(b.words) == 0 || b.words[0] != name {
		return false
	}
	b.words = b.words[1:]
	return true
}

// number takes the next word as a number up to limit, decimal or 0x...
func (b *builder) number(limit uint64) uint64 {
	w := b.word()
	n, err := strconv.ParseUint(w, 0, 64)
	if b.err == nil && (err != nil || n > limit) {
		b.fail("%q is not a number from 0 to %d", w, limit)
	}
	return n
}

// numberOr is number when the option is there, else otherwise.
func (b *builder) numberOr(option string, limit, otherwise uint64) uint64 {
	if !b.option(option) {
		return otherwise
	}
	return b.number(limit)
}

// pair takes a word of the form A>B.
func (b *builder) pair() (from, to string) {
	w := b.word()
	from, to, ok := strings.Cut(w, ">")
	if !ok {
		b.fail("%q is not FROM>TO", w)
	}
	return from, to
}

// begin names the layer that comes to whoever carries it.
func (b *builder) begin(layer string, etherType uint16, proto int) {
	switch {
	case etherType != 0 && b.typeAt != 0:
		b.put16(b.typeAt, etherType)
	case proto >= 0 && b.protoAt != 0:
		b.frame[b.protoAt] = byte(proto)
	default:
		b.fail("%s cannot stand here", layer)
	}
	b.typeAt, b.protoAt = 0, 0
}

func (b *builder) put16(at int, v uint16) { b.frame[at], b.frame[at+1] = byte(v>>8), byte(v) }

func (b *builder) add(data ...byte) { b.frame = append(b.frame, data...) }

func (b *builder) add16(v uint16) { b.add(byte(v>>8), byte(v)) }

func (b *builder) add32(v uint32) { b.add(byte(v>>24), byte(v>>16), byte(v>>8), byte(v)) }
