package dataplane

import (
	"encoding/binary"
	"sync/atomic"
	"time"

	"sfc/dataplane/packet"
)

// counter is a function that keeps in every slot how many packets of the flow
// it saw, and knows which number the next one has to have.
type counter struct {
	b      *played
	region []byte
	descs  *[packet.BurstSize]packet.Desc
	state  []uint32 // by slot
	pause  time.Duration
	asked  atomic.Uint32
	// end, when set, is called for ended flows.
	end func(slots []uint32)
}

// markOf is what the sender wrote into a packet: the number of its flow, its
// own among the flow's, and its own among all.
func markOf(frame []byte) (flow, n, serial uint32) {
	at := frame[len(frame)-20:]
	return binary.LittleEndian.Uint32(at[4:]), binary.LittleEndian.Uint32(at), binary.LittleEndian.Uint32(at[8:])
}

func (c *counter) Process(b *packet.Burst) {
	if c.pause > 0 {
		time.Sleep(c.pause)
	}
	for k := range int(b.N) {
		id, n, _ := markOf(b.Frames[k].Bytes(c.region))
		c.note(b, k, id, n)
		b.Out[k] = packet.Outcome{Verdict: packet.Tx, Port: c.descs[k].OutPort}
		if c.b.verdicts {
			switch (id + n) % 8 {
			case 1:
				b.Out[k] = packet.Outcome{Verdict: packet.Drop, Reason: 1}
				c.b.others.Add(1)
			case 5:
				b.Out[k].Verdict = packet.Pass
				c.b.others.Add(1)
			}
		}
	}
}

// note compares a packet with what was seen of its flow.
func (c *counter) note(b *packet.Burst, k int, id, n uint32) {
	slot, fresh := b.Slot[k], c.descs[k].Flags&packet.FlagNewFlow != 0
	last := &c.b.last[id]
	if was := last.Load(); n < was || n > was && !c.b.stopping.Load() {
		c.b.fail("packet %d of flow %d: %d was due", n, id, was)
	}
	last.Store(n + 1)
	switch {
	case slot == packet.NoSlot:
		if !c.b.forgetful {
			c.b.fail("packet %d of flow %d has no flow", n, id)
		}
	case fresh && c.state[slot] != 0:
		c.b.fail("packet %d begins flow %d, whose state is %d", n, id, c.state[slot])
	case !(fresh && c.b.forgetful) && c.state[slot] != n && !c.b.stopping.Load():
		c.b.fail("packet %d of flow %d: the function has seen %d", n, id, c.state[slot])
	default:
		c.state[slot] = n + 1
	}
}

func (c *counter) Tick(uint64) {}
func (c *counter) FlowEnd(slots []uint32) {
	if c.end != nil {
		c.end(slots)
	}
	for _, s := range slots {
		c.state[s] = 0
	}
}

// FlowBytes differs between workers and changes all the time, as it does when
// functions are replaced.
func (c *counter) FlowBytes() int { return 4 + 8*int(c.asked.Add(1)%3) }
func (c *counter) TakeFlow(slot uint32, dst []byte) {
	binary.LittleEndian.PutUint32(dst, c.state[slot])
}
func (c *counter) ClearFlow(slot uint32)            { c.state[slot] = 0 }
func (c *counter) GiveFlow(slot uint32, src []byte) { c.state[slot] = binary.LittleEndian.Uint32(src) }

// countingStack takes everything.
type countingStack struct{}

func (countingStack) Inject([]byte) bool { return true }
