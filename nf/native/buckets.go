package native

import (
	"encoding/binary"
	"errors"
	"math/big"
	"net/netip"

	"sfc/dataplane/packet"
)

// What several functions share: token buckets and the table of prefixes that have
// them, see nf/catalog/buckets.

// tokenLimit is how fast tokens come in, and how many there may be.
type tokenLimit struct {
	perSecond *big.Rat // packets or bits
	burst     *big.Rat
	bits      bool // count bits, not packets
}

// limits hold all at the same time.
type limits []tokenLimit

// bucket holds the tokens of each limit, as of seenNs.
type bucket struct {
	tokens []*big.Rat
	seenNs uint64
}

func newTokenLimit(object map[string]any) (tokenLimit, error) {
	const maxRate, maxBurst = 1_000_000_000_000, 4_000_000_000
	if _, ok := object["rate"]; !ok {
		return tokenLimit{}, errors.New("rate is missing")
	}
	rate, errRate := getInt(object, "rate", 0, 1, maxRate)
	burst, errBurst := getInt(object, "burst", min(rate, maxBurst), 1, maxBurst)
	unit, errUnit := getEnum(object, "unit", "pps", "bps")
	return tokenLimit{
		perSecond: new(big.Rat).SetInt64(rate),
		burst:     new(big.Rat).SetInt64(burst),
		bits:      unit == "bps",
	}, errors.Join(errRate, errBurst, errUnit)
}

// full is a bucket from which nothing was taken.
func (ls limits) full(nowNs uint64) *bucket {
	b := &bucket{seenNs: nowNs}
	for _, l := range ls {
		b.tokens = append(b.tokens, l.burst)
	}
	return b
}

// take adds what came in since the bucket was last looked at, and takes what the
// packet costs; false, and nothing taken, when one limit has too few.
func (ls limits) take(b *bucket, p *view) bool {
	passed := new(big.Rat)
	if p.RxNs > b.seenNs {
		passed.SetInt(new(big.Int).SetUint64(p.RxNs - b.seenNs))
		passed.Mul(passed, big.NewRat(1, 1e9))
		b.seenNs = p.RxNs
	}
	rest := make([]*big.Rat, len(ls))
	fits := true
	for i, l := range ls {
		tokens := new(big.Rat).Mul(passed, l.perSecond)
		b.tokens[i] = atMost(tokens.Add(tokens, b.tokens[i]), l.burst)
		cost := big.NewRat(1, 1)
		if l.bits {
			cost = big.NewRat(int64(p.Len)*8, 1)
		}
		rest[i] = new(big.Rat).Sub(b.tokens[i], cost)
		fits = fits && rest[i].Sign() >= 0
	}
	if fits {
		b.tokens = rest
	}
	return fits
}

// giveBack undoes what one packet took of limits that count packets.
func (ls limits) giveBack(b *bucket) {
	for i, l := range ls {
		b.tokens[i] = atMost(new(big.Rat).Add(b.tokens[i], big.NewRat(1, 1)), l.burst)
	}
}

func atMost(a, b *big.Rat) *big.Rat {
	if a.Cmp(b) > 0 {
		return b
	}
	return a
}

// prefixTable holds buckets of prefixes: in sets of at most prefixWays.
type prefixTable struct {
	prefix4, prefix6 int
	seed             uint64
	sets             [][]prefixBucket
}

type prefixBucket struct {
	prefix netip.Prefix
	*bucket
}

const prefixWays = 8

// newPrefixTable reads prefix4, prefix6, seed and the field called max, which is
// at most most and 4096 by default.
func newPrefixTable(config map[string]any, max string, most, default6 int64) (*prefixTable, error) {
	prefix4, err4 := getInt(config, "prefix4", 32, 0, 32)
	prefix6, err6 := getInt(config, "prefix6", default6, 0, 128)
	seed, errSeed := getInt(config, "seed", 0, 0, 1<<63-1)
	prefixes, errMax := getInt(config, max, 4096, 1, most)
	sets := 1
	for sets*prefixWays < 2*int(prefixes) {
		sets *= 2
	}
	return &prefixTable{int(prefix4), int(prefix6), uint64(seed), make([][]prefixBucket, sets)}, errors.Join(err4, err6, errSeed, errMax)
}

// found is what a search came to.
type found int

const (
	foundThere found = iota
	foundEmpty
	foundIdlest // the set was full; its idlest bucket is gone
)

// find returns the bucket of an address, a new and full one when it has none.
func (t *prefixTable) find(a netip.Addr, ls limits, nowNs uint64) (*bucket, found) {
	bits := t.prefix6
	if a.Is4() {
		bits = t.prefix4
	}
	prefix := netip.PrefixFrom(a, bits).Masked()
	i := t.hash(prefix.Addr()) % uint64(len(t.sets))
	idlest := 0
	for k, b := range t.sets[i] {
		if b.prefix == prefix {
			return b.bucket, foundThere
		}
		if b.seenNs < t.sets[i][idlest].seenNs {
			idlest = k
		}
	}
	b := prefixBucket{prefix, ls.full(nowNs)}
	if len(t.sets[i]) < prefixWays {
		t.sets[i] = append(t.sets[i], b)
		return b.bucket, foundEmpty
	}
	t.sets[i][idlest] = b
	return b.bucket, foundIdlest
}

// hash is the functions' documented hash: it decides who shares a set.
func (t *prefixTable) hash(a netip.Addr) uint64 {
	var hi, lo uint64
	if a.Is4() {
		b := a.As4()
		lo = uint64(binary.BigEndian.Uint32(b[:]))
	} else {
		b := a.As16()
		hi, lo = binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])
	}
	h := (lo ^ t.seed) * 0x9e3779b97f4a7c15
	h = (h ^ h>>32 ^ hi) * 0x6a09e667f3bcc909
	return h ^ h>>32
}

// srcOf returns the source of an IP header.
func srcOf(ip []byte) netip.Addr {
	if len(ip) == packet.IPv4Len {
		return netip.AddrFrom4([4]byte(ip[12:16]))
	}
	return netip.AddrFrom16([16]byte(ip[8:24]))
}

// dstOf returns its destination.
func dstOf(ip []byte) netip.Addr {
	if len(ip) == packet.IPv4Len {
		return netip.AddrFrom4([4]byte(ip[16:20]))
	}
	return netip.AddrFrom16([16]byte(ip[24:40]))
}
