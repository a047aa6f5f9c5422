package bpf

import (
	"testing"

	"sfc/dataplane/classify"
)

// Queries of two hosts are told apart by their identifier, and their replies
// found by it; no rule on ports takes it for one.
func TestQueriesByIdentifier(t *testing.T) {
	s, _ := shared(t, 2)
	table := compile(t, fixtureRules)
	reply := func(frame []byte, l3, n, l4 int, typ byte) []byte {
		r := with(with(frame, l3, frame[l3+n:l3+2*n]...), l3+n, frame[l3:l3+n]...)
		return with(r, l4, typ)
	}
	for name, c := range map[string]struct {
		frame func(typ uint8, id uint16) []byte
		reply func([]byte, byte) []byte
		types [][2]uint8
	}{
		"v4": {func(typ uint8, id uint16) []byte { return build(eth(0x0800), ip4(out4, 1, 0), query(typ, id)) },
			func(f []byte, typ byte) []byte { return reply(f, 26, 4, 34, typ) }, [][2]uint8{{8, 0}, {13, 14}, {15, 16}, {17, 18}}},
		"v6": {func(typ uint8, id uint16) []byte { return build(eth(0x86dd), ip6(out6, 58), query(typ, id)) },
			func(f []byte, typ byte) []byte { return reply(f, 22, 16, 54, typ) }, [][2]uint8{{128, 129}}},
	} {
		for _, types := range c.types {
			buckets := map[uint16]bool{}
			for id := range uint16(100) {
				request := c.frame(types[0], id*259)
				_, a := agree(t, s, table, request)
				_, b := agree(t, s, table, c.reply(request, types[1]))
				if a == nil || b == nil || a.Hash != b.Hash || a.Bucket != b.Bucket {
					t.Fatalf("%s, type %d, identifier %d: request %+v, reply %+v", name, types[0], id, a, b)
				}
				buckets[a.Bucket] = true
			}
			if len(buckets) < 85 { // of 1,024, about 5 meet
				t.Errorf("%s, type %d: 100 identifiers in %d buckets", name, types[0], len(buckets))
			}
		}
		// What is no query has no identifier: router solicitation and such.
		_, a := agree(t, s, table, c.frame(10, 1))
		_, b := agree(t, s, table, c.frame(10, 2))
		if a.Hash != b.Hash {
			t.Errorf("%s: bytes 4 and 5 of type 10 count", name)
		}
	}
	ports := compile(t, []classify.Rule{{Path: 1, VLAN: classify.AnyVLAN, Proto: classify.AnyProto, DstPorts: classify.PortRange{Lo: 1, Hi: 65535}}})
	s = onePort(t, ports)
	for _, frame := range [][]byte{build(eth(0x0800), ip4(out4, 1, 0), query(8, 80)), build(eth(0x86dd), ip6(out6, 58), query(128, 80))} {
		if got, _ := agree(t, s, ports, frame); got != unmatched {
			t.Errorf("a ping with identifier 80, and a rule for ports: %s", got)
		}
	}
}

// All fragments of a packet and all ICMP errors between two hosts are in one
// bucket of the odd row, whatever path they take.
func TestOddRow(t *testing.T) {
	s, o := shared(t, 2)
	table := compile(t, fixtureRules)
	for name, frames := range map[string][][]byte{
		"v4": {
			with(build(eth(0x0800), ip4(in4, 17, 0), udp(4000, 53), data(16)), 20, 0x20, 0),
			with(build(eth(0x0800), ip4(in4, 17, 0), data(16)), 20, 0x20, 5),
			with(build(eth(0x0800), ip4(in4, 6, 0), data(16)), 20, 0, 9),
			build(eth(0x0800), ip4(in4, 1, 0), icmp(3), data(28)),
			with(build(eth(0x0800), ip4(in4, 1, 0), query(8, 77), data(16)), 20, 0x20, 0),
		},
		"v6": {
			build(eth(0x86dd), ip6(in6, 44), frag6(17, 0, 1), udp(4000, 53)),
			build(eth(0x86dd), ip6(in6, 44), frag6(17, 9, 1), data(8)),
			build(eth(0x86dd), ip6(in6, 44), frag6(60, 20, 0), data(8)),
			build(eth(0x86dd), ip6(in6, 58), icmp(1), data(40)),
		},
	} {
		paths, bucket := map[uint16]bool{}, -1
		for _, frame := range frames {
			before := sent(o)
			_, meta := agree(t, s, table, frame)
			if meta == nil {
				t.Fatalf("%s: not claimed\n%x", name, frame)
			}
			paths[meta.Path] = true
			at := [2]uint16{o.Odd(), meta.Bucket}
			if bucket >= 0 && int(meta.Bucket) != bucket || sent(o)[at] != before[at]+1 {
				t.Errorf("%s: bucket %d of the odd row, %d before; counted %v", name, meta.Bucket, bucket, sent(o))
			}
			bucket = int(meta.Bucket)
		}
		if len(paths) < 2 {
			t.Errorf("%s: all take one path", name)
		}
	}
}
