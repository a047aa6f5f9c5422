package agent

import (
	"fmt"

	"sfc/bpf"
	"sfc/chains"
	"sfc/dataplane"
	"sfc/dataplane/cpu"
	"sfc/dataplane/steer"
	"sfc/nf"
	"sfc/nf/wasm"
)

// Options configure an [Engine]. Specs and Ports are required.
type Options struct {
	// Specs are the chains, each with its functions' Config set, as
	// [chains.Load] gives them.
	Specs []chains.Spec
	// Ports are the names of the ports, in index order.
	Ports []string
	// Queues is how many receive queues every port has: all of them are
	// served. Default 1, at most bpf.MaxQueues.
	Queues int
	// Workers is the number of workers. Default 1, at most MaxWorkers.
	Workers int
	// Cores are the cores that the workers are pinned to, one each. Default:
	// the last ones that this process may use; the first are where the kernel
	// and everything else are.
	Cores []int
	// Limits are checked on every module.
	Limits nf.Limits
	// TimeEvery is how many bursts pass between two that are timed, a power of
	// two. Default: the runtime's.
	TimeEvery int
	// PacketTime says that the observers set the time from packets; see
	// [dataplane.Config].
	PacketTime bool
	// Observer returns a worker's observer. Nil: nobody watches.
	Observer func(worker int) dataplane.Observer
	// Events receives log lines, faults and alarms of functions, from several
	// goroutines. Nil: they are dropped.
	Events func(Event)
	// Records receives what functions export, such as the records of flows,
	// from several goroutines: see [wasm.NewRecordLines]. Nil: nobody reads them.
	Records func(wasm.Record)
}

// MaxWorkers is how many workers an engine may have.
const MaxWorkers = steer.MaxWorkers

// Event is what a function of a chain did on one worker.
type Event struct {
	wasm.Event
	Chain  string // its name
	Worker int
}

// Port says where a port of the engine is. Its index is that of its name in
// [Options].
type Port struct {
	// Ifindex is the interface, in the namespace of the thread that connects.
	Ifindex int
	// Mode is how the steering program sits on it. Default bpf.Auto.
	Mode bpf.Mode
	// Routed says that frames which leave here get the Ethernet addresses of
	// their next hop, by the routes and neighbours of the namespace. The kernel
	// answers ARP and neighbour discovery for the port's addresses: the chains
	// must pass such frames to it. It answers for the addresses that chains
	// stand for, too. Default: frames keep the addresses they came with, as on
	// a wire.
	Routed bool
	// SendOnly leaves the steering program away: nothing is taken in here.
	SendOnly bool
}

func (o Options) withDefaults() Options {
	if o.Workers == 0 {
		o.Workers = 1
	}
	if o.Queues == 0 {
		o.Queues = 1
	}
	if o.Cores == nil {
		o.Cores = lastCores(o.Workers)
	}
	if o.Events == nil {
		o.Events = func(Event) {}
	}
	return o
}

func (o Options) validate() error {
	switch {
	case o.Workers < 1 || o.Workers > MaxWorkers:
		return fmt.Errorf("%d workers: want 1 to %d", o.Workers, MaxWorkers)
	case o.Queues < 1 || o.Queues > bpf.MaxQueues:
		return fmt.Errorf("%d queues: want 1 to %d", o.Queues, bpf.MaxQueues)
	case len(o.Cores) != o.Workers:
		return fmt.Errorf("%d cores for %d workers: name one for each", len(o.Cores), o.Workers)
	}
	return nil
}

// lastCores returns the last n cores that this process may use, the last one
// first. Where there are too few, or the kernel does not say, workers are left
// to the scheduler (-1).
func lastCores(n int) []int {
	allowed := cpu.AtStart()
	cores := make([]int, n)
	for i := range cores {
		cores[i] = -1
		if k := len(allowed) - 1 - i; k >= 0 {
			cores[i] = allowed[k]
		}
	}
	return cores
}

// LoadSpecs reads chain files.
func LoadSpecs(files []string) ([]chains.Spec, error) {
	specs := make([]chains.Spec, 0, len(files))
	for _, file := range files {
		spec, err := chains.Load(file)
		if err != nil {
			return nil, err
		}
		specs = append(specs, spec)
	}
	return specs, nil
}
