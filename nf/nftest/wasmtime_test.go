package nftest

import (
	"fmt"
	"os"
	"testing"

	"github.com/bytecodealliance/wasmtime-go/v39"

	"sfc/dataplane/packet"
	"sfc/nf"
)

// guest runs a module in plain Wasmtime, with none of the engine around it.
type guest struct {
	w                  window
	store              *wasmtime.Store
	configure, handler *wasmtime.Func
}

func newGuest(tb testing.TB, path string) *guest {
	tb.Helper()
	code, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	engine := wasmtime.NewEngine()
	module, err := wasmtime.NewModule(engine, code)
	if err != nil {
		tb.Fatal(err)
	}
	store := wasmtime.NewStore(engine)
	instance, err := wasmtime.NewInstance(store, module, nil)
	if err != nil {
		tb.Fatal(err)
	}
	return &guest{
		w:         window{instance.GetExport(store, nf.ExportMemory).Memory().UnsafeData(store)},
		store:     store,
		configure: instance.GetFunc(store, nf.ExportConfigure),
		handler:   instance.GetFunc(store, nf.ExportProcess),
	}
}

func (g *guest) Configure(config []byte) error {
	clear(g.w.mem[nf.CountersStart : nf.CountersStart+8*nf.NumCounters])
	g.w.setConfig(config)
	code, err := g.configure.Call(g.store, int32(nf.ConfigStart), int32(len(config)))
	if err != nil {
		return fmt.Errorf("trap: %w", err)
	}
	if code := code.(int32); code != 0 {
		return &RefusedError{code}
	}
	return nil
}

func (g *guest) Process(packets []Packet) []Result {
	return g.w.process(packets, func(descs []packet.Desc) {
		if _, err := g.handler.Call(g.store, int32(len(descs))); err != nil {
			panic(fmt.Sprintf("trap: %v", err)) // a guest must never trap
		}
	})
}

func (g *guest) Counters() []uint64 { return g.w.counters() }
