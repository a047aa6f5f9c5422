package agent

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"sfc/chains"
	"sfc/ctrl/plane"
	"sfc/dataplane"
	"sfc/dataplane/arena"
	"sfc/dataplane/classify"
	"sfc/dataplane/flow"
	"sfc/dataplane/keep"
	"sfc/dataplane/packet"
	"sfc/dataplane/route"
	"sfc/dataplane/steer"
	"sfc/dataplane/xsk"
	"sfc/nf"
	"sfc/nf/wasm"
)

// PlaneOptions configure a [Dataplane]. Kernel is required.
type PlaneOptions struct {
	// Kernel is what needs privileges. It is the data plane's from now on.
	Kernel Kernel
	// Keep is where everything lies that is to outlive the process. Default:
	// nothing does.
	Keep keep.Store
	// Workers is their number. Default 1, at most MaxWorkers. Cores are those
	// that they are pinned to. Default: the last ones of this process.
	Workers int
	Cores   []int
	// Chains and Paths are how many there can be at a time. Default 1,024, and
	// twice as many. A chain whose functions or flows change otherwise than by a
	// new version has two places for a moment.
	Chains, Paths int
	// Queues is for how many receive queues, of all ports together, there are
	// to be frames. Default 4. RingSize is the size of each ring, less where
	// that would be too much. Default 1,024.
	Queues   int
	RingSize int
	// Holders is how many flows may have further tuples and claims, all chains
	// together. Default 65,536.
	Holders int
	// Balance is how often it is looked whether flows should move to another
	// worker. Default 1 s; below zero never.
	Balance time.Duration
	// Probation is how long a fault puts the version before back. Default 5 s.
	Probation time.Duration
	// Limits are checked on every module.
	Limits nf.Limits
	// Records receives what functions export. Nil: nobody reads them.
	Records func(wasm.Record)
	// Restarts and Began are told back by Observe.
	Restarts int
	Began    time.Time
	// Because says how the process before ended, if nobody asked it to.
	Because string
}

func (o PlaneOptions) withDefaults() PlaneOptions {
	or := func(v *int, def int) {
		if *v == 0 {
			*v = def
		}
	}
	or(&o.Workers, 1)
	or(&o.Chains, 1024)
	or(&o.Paths, 2*o.Chains)
	or(&o.Queues, 4)
	or(&o.RingSize, 1024)
	or(&o.Holders, 1<<16)
	if o.Cores == nil {
		o.Cores = lastCores(o.Workers)
	}
	if o.Keep == nil {
		o.Keep = keep.Local()
	}
	if o.Balance == 0 {
		o.Balance = time.Second
	}
	if o.Began.IsZero() {
		o.Began = time.Now()
	}
	return o
}

func (o PlaneOptions) validate() error {
	switch {
	case o.Kernel == nil:
		return errors.New("data plane without a kernel: give one")
	case o.Workers < 1 || o.Workers > MaxWorkers:
		return fmt.Errorf("%d workers: want 1 to %d", o.Workers, MaxWorkers)
	case len(o.Cores) != o.Workers:
		return fmt.Errorf("%d cores for %d workers: name one for each", len(o.Cores), o.Workers)
	case o.Chains < 1 || o.Chains > classify.MaxRules || o.Paths < o.Chains || o.Paths > 2*o.Chains:
		return fmt.Errorf("room for %d chains and %d paths: want 1 to %d chains, and one or two paths for each", o.Chains, o.Paths, classify.MaxRules)
	}
	return nil
}

// Dataplane is a data plane whose chains and ports come and go while it runs:
// it implements [plane.Plane]. Where an [Engine] is made of chains that are
// given once, this one begins with none, and takes over what an earlier process
// left in [PlaneOptions.Keep].
type Dataplane struct {
	opts    PlaneOptions
	key     [2]uint64 // of the flow hash
	rt      *wasm.Runtime
	build   *builder
	region  *arena.Region
	depot   *packet.Depot
	workers []*worker // pool, tuples and run; who runs what is in chains
	set     *dataplane.Set
	owners  *steer.Owners
	grants  grant // of all chains together; each has its share of it
	routes  *route.Table
	events  *events

	// changing is held by who changes what runs; mu by who changes what others
	// read, for a moment.
	changing sync.Mutex
	seats    *seats
	// portsDirty says that ports came or went since steering was told.
	portsDirty bool

	keeping        sync.Mutex // held while a record is kept
	state, counted record

	mu       sync.RWMutex
	revision uint64
	chains   map[string]*liveChain // by tenant/name
	ports    [classify.MaxPorts]*livePort
	tenants  map[string]*liveTenant
	codes    map[string]*code // by digest
	past     past

	looks looks

	gone    chan struct{} // closed by Close
	closing sync.Once
	aside   sync.WaitGroup // goroutines that end with gone
	opened  undoStack
}

var _ plane.Plane = (*Dataplane)(nil)

// OpenPlane starts a data plane: with nothing, or with what is kept. Workers run
// when it returns.
func OpenPlane(opts PlaneOptions) (_ *Dataplane, err error) {
	opts = opts.withDefaults()
	if err := opts.validate(); err != nil {
		return nil, err
	}
	d := &Dataplane{
		opts: opts, chains: map[string]*liveChain{}, tenants: map[string]*liveTenant{}, codes: map[string]*code{},
		state: record{folder: "plane"}, counted: record{folder: "stats"}, seats: newSeats(opts.Chains, opts.Paths), events: newEvents(), gone: make(chan struct{}),
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.Close())
		}
	}()
	if d.rt, err = wasm.Open(wasm.Options{Limits: opts.Limits, NoCompiler: true}); err != nil {
		return nil, err
	}
	d.opened.push(d.rt.Close)
	if err := d.openTables(); err != nil {
		return nil, err
	}
	if err := d.openWorkers(); err != nil {
		return nil, err
	}
	if err := d.restore(); err != nil {
		return nil, err
	}
	if err := d.set.Start(); err != nil {
		return nil, err
	}
	if opts.Because != "" {
		d.events.add(plane.Event{Kind: "alarm", Reason: "DataPlaneDied", Level: levelError, Worker: -1,
			Text: "the data plane before " + opts.Because + "; this one goes on with its flows"})
	}
	d.balance()
	d.tend()
	return d, nil
}

// framesName and claimsName are what the region of frames, and the table of
// claims, are kept as.
const (
	framesName = "umem"
	claimsName = "claims"
)

// openTables opens what all workers share.
func (d *Dataplane) openTables() error {
	o := &d.opts
	sizing := xsk.Sizing{Queues: o.Queues, Workers: o.Workers, Held: dataplane.MaxKept(o.Workers), RingSize: uint32(o.RingSize)}
	chunks, sockets, err := sizing.Size()
	if err != nil {
		return err
	}
	if d.region, _, err = o.Keep.Open(framesName, chunks*packet.ChunkSize, arena.Options{Huge: true}); err != nil {
		return err
	}
	d.opened.push(d.region.Close)
	d.depot = packet.NewDepot(len(d.region.Bytes()))
	pools := make([]*packet.Pool, o.Workers)
	for i := range pools {
		pools[i] = d.depot.Pool()
		d.workers = append(d.workers, &worker{index: i, pool: pools[i]})
	}
	tables, err := o.Kernel.Open(KernelOptions{
		Workers: o.Workers, Chains: o.Chains, Paths: o.Paths, PinBytes: steer.PinsSize(steer.MaxBinds * o.Holders),
		Frames: d.region, FramesName: framesName, Depot: d.depot, Pools: pools, Sockets: sockets,
		OnWorker: func(w int, f func()) { d.workers[w].between(f) },
	})
	d.opened.push(o.Kernel.Close)
	if err != nil {
		return err
	}
	d.key = tables.Key
	return d.openShared(tables)
}

// openWorkers makes the workers, without chains or ports.
func (d *Dataplane) openWorkers() (err error) {
	d.build = &builder{
		rt: d.rt, key: d.key, ports: classify.MaxPorts, records: d.opts.Records,
		events: func(c *chains.Chain, worker int, e wasm.Event) { d.events.ofFunction(c, worker, e) },
	}
	if d.routes, err = d.opts.Kernel.Routes(); err != nil {
		return err
	}
	d.opened.push(d.routes.Close)
	cfgs := make([]dataplane.Config, len(d.workers))
	for i, w := range d.workers {
		if w.tuples, err = flow.NewReader(flow.ReaderOptions{Key: d.key}); err != nil {
			return err
		}
		cfgs[i] = dataplane.Config{
			Core: d.opts.Cores[i], Region: d.region.Bytes(), Pool: w.pool, GuestBase: nf.FramesStart, Tuples: w.tuples,
			MaxPorts: classify.MaxPorts, MaxPaths: d.opts.Paths, MaxChains: d.opts.Chains, Stack: d.opts.Kernel.Stack(),
			Routes: d.routes.View(),
		}
	}
	if d.set, err = dataplane.NewSet(cfgs, d.owners, d.opts.Kernel.Grace); err != nil {
		return err
	}
	for i, w := range d.set.Workers() {
		d.workers[i].run = w
	}
	return nil
}

// Close stops the workers and gives back what this process has. What is kept
// stays as it is: the next process goes on with it. It may be called again.
func (d *Dataplane) Close() (err error) {
	d.closing.Do(func() {
		close(d.gone)
		d.changing.Lock()
		defer d.changing.Unlock()
		var all []*running
		for _, c := range d.chains {
			if c.run != nil {
				all = append(all, c.run)
			}
		}
		d.halt(all)
		d.aside.Wait()
		if d.set != nil {
			if d.opts.Keep != keep.Local() {
				// What is under way finishes; without, it would be dropped.
				if _, pause := d.set.Pause(); pause != nil && !errors.Is(pause, dataplane.ErrStopped) {
					err = pause
				}
			}
			err = errors.Join(err, d.set.Stop())
		}
		for _, c := range d.chains {
			if c.run != nil {
				err = errors.Join(err, c.run.close())
			}
		}
		for _, c := range d.codes {
			c.letGo()
		}
		d.events.close()
		err = errors.Join(err, d.opened.run())
	})
	return err
}
