package native

import (
	"errors"

	"sfc/dataplane/packet"
)

// rateLimit is nf/catalog/ratelimit.
type rateLimit struct {
	limits   limits
	byFlow   bool
	sources  *prefixTable
	flows    map[uint32]*bucket // by slot
	flowless *bucket
}

const (
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
	sources, errSources := newPrefixTable(config, "max_sources", 65536, 64)
	key, errKey := getEnum(config, "key", "src", "flow")
	r := &rateLimit{limits: limits{first}, byFlow: key == "flow", sources: sources, flows: map[uint32]*bucket{}}
	errAlso := r.readAlso(config)
	r.flowless = r.limits.full(0)
	return r, errors.Join(err, errFirst, errAlso, errSources, errKey)
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

func (r *rateLimit) end(slot uint32, _ []uint64) { delete(r.flows, slot) }

func (r *rateLimit) decide(p *view, c []uint64) (packet.Verdict, uint16) {
	b := r.bucketOf(p, c)
	if b == nil {
		c[rateNonIP]++
		return packet.Next, 0
	}
	if !r.limits.take(b, p) {
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
		b, found := r.sources.find(srcOf(ip), r.limits, p.RxNs)
		switch found {
		case foundEmpty:
			c[rateSources]++
		case foundIdlest:
			c[rateReplaced]++
		}
		return b
	case p.Slot != packet.NoSlot && p.Flags&packet.FlagICMPError == 0:
		b := r.flows[p.Slot]
		if b == nil {
			b = r.limits.full(p.RxNs)
			r.flows[p.Slot] = b
		}
		return b
	case p.Flags&(packet.FlagIPv4|packet.FlagIPv6) != 0:
		c[rateNoFlow]++
		return r.flowless
	}
	return nil
}
