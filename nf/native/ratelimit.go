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
	limits           []tokenLimit
	byFlow           bool
	prefix4, prefix6 int
	seed             uint64

	sets     [][]*source        // at most rateWays each
	flows    map[uint32]*bucket // by slot
	flowless *bucket
}

// tokenLimit is how fast tokens come in, and how many there may be.
type tokenLimit struct {
	perSecond *big.Rat // packets or bits
	burst     *big.Rat
	bits      bool // count bits, not packets
}

// bucket holds the tokens of each limit, as of seenNs.
type bucket struct {
	tokens []*big.Rat
	seenNs uint64
}

// source is the bucket of one prefix.
type source struct {
	prefix netip.Prefix
	*bucket
}

const (
	rateWays = 8

	rateExceeded = 1 // reason

	ratePassed   = 0 // counters
	rateSources  = 1
	rateReplaced = 2
	rateNonIP    = 3
	rateNoFlow   = 4
)

func newRateLimit(config map[string]any) (decider, error) {
	first, errFirst := newTokenLimit(config)
	err := onlyFields(config, "rate", "unit", "burst", "also", "key", "prefix4", "prefix6", "max_sources", "seed")
	prefix4, err4 := getInt(config, "prefix4", 32, 0, 32)
	prefix6, err6 := getInt(config, "prefix6", 64, 0, 128)
	sources, errMax := getInt(config, "max_sources", 4096, 1, 65536)
	seed, errSeed := getInt(config, "seed", 0, 0, 1<<63-1)
	key, errKey := getEnum(config, "key", "src", "flow")
	sets := 1
	for sets*rateWays < 2*int(sources) {
		sets *= 2
	}
	r := &rateLimit{
		limits:  []tokenLimit{first},
		byFlow:  key == "flow",
		prefix4: int(prefix4),
		prefix6: int(prefix6),
		seed:    uint64(seed),
		sets:    make([][]*source, sets),
		flows:   map[uint32]*bucket{},
	}
	errAlso := r.readAlso(config)
	r.flowless = r.full(0)
	return r, errors.Join(err, errFirst, errAlso, err4, err6, errMax, errSeed, errKey)
}

// readAlso reads the second limit, if there is one.
func (r *rateLimit) readAlso(config map[string]any) error {
	value, ok := config["also"]
	if !ok {
		return nil
	}
	object, ok := value.(map[string]any)
	if !ok {
		return errors.New("also is not an object")
	}
	second, err := newTokenLimit(object)
	r.limits = append(r.limits, second)
	return errors.Join(err, onlyFields(object, "rate", "unit", "burst"))
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
func (r *rateLimit) full(nowNs uint64) *bucket {
	b := &bucket{seenNs: nowNs}
	for _, l := range r.limits {
		b.tokens = append(b.tokens, l.burst)
	}
	return b
}

func (r *rateLimit) end(slot uint32, _ []uint64) { delete(r.flows, slot) }

func (r *rateLimit) decide(p *view, c []uint64) (packet.Verdict, uint16) {
	b := r.bucketOf(p, c)
	if b == nil {
		c[rateNonIP]++
		return packet.Next, 0
	}
	if !r.take(b, p) {
		return packet.Drop, rateExceeded
	}
	c[ratePassed]++
	return packet.Next, 0
}

// bucketOf returns the bucket that a packet is charged to; nil: none.
func (r *rateLimit) bucketOf(p *view, c []uint64) *bucket {
	ip := p.ip()
	switch {
	case !r.byFlow && ip == nil:
		return nil
	case !r.byFlow:
		return r.find(r.prefix(ip), p.RxNs, c).bucket
	case p.Slot != packet.NoSlot && p.Flags&packet.FlagICMPError == 0:
		b := r.flows[p.Slot]
		if b == nil {
			b = r.full(p.RxNs)
			r.flows[p.Slot] = b
		}
		return b
	case p.Flags&(packet.FlagIPv4|packet.FlagIPv6) != 0:
		c[rateNoFlow]++
		return r.flowless
	}
	return nil
}

// take adds what came in since the bucket was last looked at, and takes what the
// packet costs; false, and nothing taken, when one limit has too few.
func (r *rateLimit) take(b *bucket, p *view) bool {
	passed := new(big.Rat)
	if p.RxNs > b.seenNs {
		passed.SetInt(new(big.Int).SetUint64(p.RxNs - b.seenNs))
		passed.Mul(passed, big.NewRat(1, 1e9))
		b.seenNs = p.RxNs
	}
	rest := make([]*big.Rat, len(r.limits))
	fits := true
	for i, l := range r.limits {
		tokens := new(big.Rat).Mul(passed, l.perSecond)
		tokens.Add(tokens, b.tokens[i])
		if tokens.Cmp(l.burst) > 0 {
			tokens = l.burst
		}
		cost := big.NewRat(1, 1)
		if l.bits {
			cost = big.NewRat(int64(p.Len)*8, 1)
		}
		b.tokens[i] = tokens
		rest[i] = new(big.Rat).Sub(tokens, cost)
		fits = fits && rest[i].Sign() >= 0
	}
	if fits {
		b.tokens = rest
	}
	return fits
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
	s := &source{prefix, r.full(nowNs)}
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
