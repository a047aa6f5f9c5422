package native

import (
	"encoding/binary"
	"errors"
	"math/big"
	"net/netip"

	"sfc/dataplane/packet"
)

// rateLimit is nf/catalog/ratelimit.
type rateLimit struct {
	perSecond        *big.Rat // packets or bits
	burst            *big.Rat
	bits             bool // count bits, not packets
	prefix4, prefix6 int
	seed             uint64

	sets [][]*source // at most rateWays each
}

// source is the bucket of one prefix.
type source struct {
	prefix netip.Prefix
	tokens *big.Rat
	seenNs uint64
}

const (
	rateWays = 8

	rateExceeded = 1 // reason

	ratePassed   = 0 // counters
	rateSources  = 1
	rateReplaced = 2
	rateNonIP    = 3
)

func newRateLimit(config map[string]any) (decider, error) {
	const maxRate, maxBurst = 1_000_000_000_000, 4_000_000_000
	if _, ok := config["rate"]; !ok {
		return nil, errors.New("rate is missing")
	}
	err := onlyFields(config, "rate", "unit", "burst", "key", "prefix4", "prefix6", "max_sources", "seed")
	rate, errRate := getInt(config, "rate", 0, 1, maxRate)
	burst, errBurst := getInt(config, "burst", min(rate, maxBurst), 1, maxBurst)
	prefix4, err4 := getInt(config, "prefix4", 32, 0, 32)
	prefix6, err6 := getInt(config, "prefix6", 64, 0, 128)
	sources, errMax := getInt(config, "max_sources", 4096, 1, 65536)
	seed, errSeed := getInt(config, "seed", 0, 0, 1<<63-1)
	unit, errUnit := getEnum(config, "unit", "pps", "bps")
	_, errKey := getEnum(config, "key", "src")
	sets := 1
	for sets*rateWays < 2*int(sources) {
		sets *= 2
	}
	return &rateLimit{
		perSecond: new(big.Rat).SetInt64(rate),
		burst:     new(big.Rat).SetInt64(burst),
		bits:      unit == "bps",
		prefix4:   int(prefix4),
		prefix6:   int(prefix6),
		seed:      uint64(seed),
		sets:      make([][]*source, sets),
	}, errors.Join(err, errRate, errBurst, err4, err6, errMax, errSeed, errUnit, errKey)
}

func (r *rateLimit) decide(p *view, c []uint64) (packet.Verdict, uint16) {
	ip := p.ip()
	if ip == nil {
		c[rateNonIP]++
		return packet.Next, 0
	}
	s := r.find(r.prefix(ip), p.RxNs, c)
	if p.RxNs > s.seenNs {
		passed := big.NewRat(1, 1e9)
		passed.Mul(passed, new(big.Rat).SetUint64(p.RxNs-s.seenNs))
		s.tokens = new(big.Rat).Add(s.tokens, passed.Mul(passed, r.perSecond))
		if s.tokens.Cmp(r.burst) > 0 {
			s.tokens = r.burst
		}
		s.seenNs = p.RxNs
	}
	cost := big.NewRat(1, 1)
	if r.bits {
		cost = big.NewRat(int64(p.Len)*8, 1)
	}
	if s.tokens.Cmp(cost) < 0 {
		return packet.Drop, rateExceeded
	}
	s.tokens = new(big.Rat).Sub(s.tokens, cost)
	c[ratePassed]++
	return packet.Next, 0
}

// prefix returns the part of the source address that shares a bucket.
func (r *rateLimit) prefix(ip []byte) netip.Prefix {
	if len(ip) == packet.IPv4Len {
		return netip.PrefixFrom(netip.AddrFrom4([4]byte(ip[12:16])), r.prefix4).Masked()
	}
	return netip.PrefixFrom(netip.AddrFrom16([16]byte(ip[8:24])), r.prefix6).Masked()
}

// find returns the bucket of a prefix, a new and full one when it has none. A
// full set gives up its idlest bucket.
func (r *rateLimit) find(prefix netip.Prefix, nowNs uint64, c []uint64) *source {
	i := r.hash(prefix) % uint64(len(r.sets))
	idlest := 0
	for k, s := range r.sets[i] {
		if s.prefix == prefix {
			return s
		}
		if s.seenNs < r.sets[i][idlest].seenNs {
			idlest = k
		}
	}
	s := &source{prefix, r.burst, nowNs}
	if len(r.sets[i]) < rateWays {
		r.sets[i] = append(r.sets[i], s)
		c[rateSources]++
	} else {
		r.sets[i][idlest] = s
		c[rateReplaced]++
	}
	return s
}

// hash is the function's documented hash: it decides who shares a set.
func (r *rateLimit) hash(prefix netip.Prefix) uint64 {
	var hi, lo uint64
	if a := prefix.Addr(); a.Is4() {
		b := a.As4()
		lo = uint64(binary.BigEndian.Uint32(b[:]))
	} else {
		b := a.As16()
		hi, lo = binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])
	}
	h := (lo ^ r.seed) * 0x9e3779b97f4a7c15
	h = (h ^ h>>32 ^ hi) * 0x6a09e667f3bcc909
	return h ^ h>>32
}
