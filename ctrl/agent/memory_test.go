package agent

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"

	"sfc/bpf"
	"sfc/ctrl/plane"
	"sfc/dataplane"
	"sfc/dataplane/classify"
	"sfc/dataplane/packet"
	"sfc/dataplane/ring"
	"sfc/dataplane/route"
	"sfc/dataplane/steer"
)

// inMemory is the kernel's half without a kernel: a steering program in Go and
// links whose far ends are the test's.
type inMemory struct {
	t      *testing.T
	opts   KernelOptions
	tables KernelTables
	owners *steer.Owners
	links  [classify.MaxPorts]*memLink

	// running is held while the program runs: what a grace period waits for.
	running sync.RWMutex
	table   *classify.Table
	placing *classify.Placing
	refuse  error // of Update
	kept    bool  // tables are those of an earlier process
	updates int
}

func (k *inMemory) Open(o KernelOptions) (KernelTables, error) {
	k.opts = o
	if k.kept {
		k.tables.Kept = true
		return k.tables, nil
	}
	k.tables = KernelTables{Key: [2]uint64{3, 5}, Owners: make([]byte, steer.OwnersSize(o.Chains)), Pins: make([]byte, o.PinBytes)}
	return k.tables, nil
}

func (k *inMemory) Update(c Claims) error {
	if k.refuse != nil {
		return k.refuse
	}
	table, err := classify.Compile(c.Rules)
	if err != nil {
		return err
	}
	k.running.Lock()
	defer k.running.Unlock()
	k.updates++
	k.table = table
	k.placing = &classify.Placing{Key: k.tables.Key, Workers: k.opts.Workers, Chains: k.opts.Chains, PathChain: c.PathChain, Pinned: c.Pinned}
	return nil
}

func (k *inMemory) Grace() error {
	k.running.Lock()
	k.running.Unlock() //nolint:staticcheck // to wait is all
	return nil
}

func (k *inMemory) OpenPort(index int, p plane.Port, peer int) (PortLink, error) {
	l := &memLink{k: k, index: uint16(index)}
	for range k.opts.Workers {
		r, err := ring.New[memFrame](1024)
		if err != nil {
			return nil, err
		}
		l.rx = append(l.rx, r)
	}
	for i := range k.opts.Workers {
		l.ends = append(l.ends, &memEnd{l: l, worker: i, pool: k.opts.Pools[i], region: k.opts.Frames.Bytes()})
	}
	k.links[index] = l
	return l, nil
}

func (k *inMemory) ClosePort(index int) error { k.links[index] = nil; return nil }
func (k *inMemory) Stack() dataplane.Stack    { return nil }
func (k *inMemory) Close() error              { return nil }

func (k *inMemory) Answer(int, []netip.Prefix) ([]error, error) { return nil, nil }
func (k *inMemory) Routes() (*route.Table, error)               { return route.Open(nil, route.Options{}) }
func (k *inMemory) Watch(<-chan struct{}, func()) error         { return nil }

// offer has a frame come in on a port; false when nothing claims it, or its
// worker has no room.
func (k *inMemory) offer(port int, frame []byte) bool {
	k.running.RLock()
	defer k.running.RUnlock()
	l := k.links[port]
	if l == nil || k.table == nil {
		return false
	}
	d := k.table.Steer(uint16(port), classify.Drop, frame)
	if d.Action != classify.Claim {
		return false
	}
	at := k.placing.Place(d.Path, &d.Info)
	worker := 0
	if k.owners != nil {
		worker = k.owners.Take(at.Row, at.Bucket)
	}
	f := memFrame{meta: packet.Meta{
		RxNs: dataplane.NewClock().Now(), Hash: uint32(at.Hash), Path: d.Path, Port: uint16(port), L3: d.Info.L3, L4: d.Info.L4,
		Flags: d.Info.Flags, Proto: d.Info.Proto, Version: packet.MetaVersion, Bucket: at.Bucket, Seq: uint32(l.offered.Load()),
	}, n: len(frame)}
	copy(f.data[:], frame)
	if !l.rx[worker].Push(&f) {
		k.t.Error("a worker's ring is full")
		return false
	}
	l.offered.Add(1)
	return true
}

// memFrame is a frame on its way in.
type memFrame struct {
	meta packet.Meta
	n    int
	data [128]byte
}

// memLink is a link: what the engine sends is counted.
type memLink struct {
	k             *inMemory
	index         uint16
	rx            []*ring.Ring[memFrame] // by worker
	ends          []*memEnd
	offered, sent atomic.Uint64
}

func (l *memLink) Ends(worker int) []dataplane.Port { return []dataplane.Port{l.ends[worker]} }
func (l *memLink) Ifindex() int                     { return 0 }

func (l *memLink) Status() plane.PortStatus { return plane.PortStatus{Up: true, Attach: "memory"} }
func (l *memLink) Counters() (bpf.Counters, error) {
	return bpf.Counters{Redirected: l.offered.Load()}, nil
}

// memEnd is a worker's end of a link.
type memEnd struct {
	l      *memLink
	worker int
	pool   *packet.Pool
	region []byte
	batch  [packet.BurstSize]memFrame
}

func (e *memEnd) Receive(f []packet.Frame) int {
	n := e.l.rx[e.worker].Pop(e.batch[:min(len(f), len(e.batch))])
	for i := range n {
		m := &e.batch[i]
		chunk, ok := e.pool.Get()
		if !ok {
			panic("no chunks are left")
		}
		f[i] = packet.Frame{Chunk: chunk, Off: packet.Headroom, Len: uint16(m.n)}
		copy(e.region[f[i].Pos():], m.data[:m.n])
		*packet.MetaAt(e.region, f[i].Pos()) = m.meta
	}
	return n
}

func (e *memEnd) Transmit(f []packet.Frame) int {
	for _, fr := range f {
		e.pool.Put(fr.Chunk)
	}
	e.l.sent.Add(uint64(len(f)))
	return len(f)
}

func (e *memEnd) Flush() bool           { return false }
func (e *memEnd) Refill()               {}
func (e *memEnd) Waiting() (rx, tx int) { return e.l.rx[e.worker].Len(), 0 }
func (e *memEnd) PollFD() int           { return -1 }
func (e *memEnd) Census() packet.Census { return packet.Census{} }
