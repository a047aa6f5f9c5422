package wasm

// #cgo CFLAGS: -O3 -Wall -Wextra -Werror -std=gnu11
// #cgo noescape sfc_chain_process
// #cgo nocallback sfc_chain_process
// #cgo noescape sfc_chain_process_traced
// #cgo nocallback sfc_chain_process_traced
// #cgo noescape sfc_chain_tick
// #cgo nocallback sfc_chain_tick
// #cgo noescape sfc_chain_flow_end
// #cgo nocallback sfc_chain_flow_end
// #include <stdlib.h>
// #include "shim.h"
import "C"

import (
	"errors"
	"fmt"
	"math/bits"
	"sync/atomic"
	"time"
	"unsafe"

	"sfc/dataplane/arena"
	"sfc/dataplane/packet"
	"sfc/nf"
)

// Every call into C is in this file; see shim.h for who owns what.

// The Go structs that C reads as they are.
var (
	_ [unsafe.Offsetof(packet.Burst{}.RxNs) - C.sizeof_struct_sfc_burst]byte
	_ [C.sizeof_struct_sfc_burst - unsafe.Offsetof(packet.Burst{}.RxNs)]byte
	_ [unsafe.Sizeof(packet.Outcome{}) - C.sizeof_struct_sfc_out]byte
	_ [C.sizeof_struct_sfc_out - unsafe.Sizeof(packet.Outcome{})]byte
	_ [unsafe.Sizeof(nf.ControlPage{}) - C.sizeof_struct_sfc_control]byte
	_ [C.sizeof_struct_sfc_control - unsafe.Sizeof(nf.ControlPage{})]byte
	_ [unsafe.Sizeof(packet.HopTrace{}) - C.sizeof_struct_sfc_trace]byte
	_ [C.sizeof_struct_sfc_trace - unsafe.Sizeof(packet.HopTrace{})]byte
	_ [unsafe.Sizeof(packet.HopRecord{}) - C.sizeof_struct_sfc_trace_record]byte
	_ [C.sizeof_struct_sfc_trace_record - unsafe.Sizeof(packet.HopRecord{})]byte
)

// engine is Wasmtime's engine, the linker and the epoch ticker.
type engine struct{ c *C.struct_sfc_engine }

type errBuf [C.SFC_ERRLEN]C.char

func (b *errBuf) String() string { return printable(C.GoString(&b[0])) }

func openEngine(tickUs uint32, mappings int) (*engine, error) {
	var msg errBuf
	c := C.sfc_engine_new(C.uint32_t(tickUs), C.uint64_t(mappings), &msg[0])
	if c == nil {
		return nil, fmt.Errorf("start wasmtime: %s", msg.String())
	}
	return &engine{c}, nil
}

func (e *engine) close() { C.sfc_engine_delete(e.c) }

// ticks is how often the epoch ticker ticked so far.
func (e *engine) ticks() uint64 { return uint64(C.sfc_ticker_ticks(C.sfc_engine_ticker(e.c))) }

// noted says, once, that a chain is.
func (e *engine) noted() bool { return bool(C.sfc_engine_noted(e.c)) }

// code is a module's machine code, loaded and linked.
type code struct {
	mod *C.wasmtime_module_t
	pre *C.wasmtime_instance_pre_t
}

// load takes what wasmtime's compiler serialized. Never give it bytes that a
// tenant could have written: they are machine code.
func (e *engine) load(serialized []byte) (code, error) {
	var msg errBuf
	var c code
	if len(serialized) == 0 {
		return c, errors.New("load module: no code")
	}
	if C.sfc_module_load(e.c, (*C.uint8_t)(&serialized[0]), C.size_t(len(serialized)), &c.mod, &c.pre, &msg[0]) != 0 {
		return code{}, fmt.Errorf("load module: %s", msg.String())
	}
	return c, nil
}

func (c code) close() { C.sfc_module_delete(c.mod, c.pre) }

// layout says what the memories of one function are made of, and keeps those
// that are mapped and out of use.
type layout struct{ c *C.struct_sfc_layout }

func newLayout(e *engine, mem Memory, scrap *arena.Region, state *slots, stackTop uint32, limit uint64) layout {
	l := C.sfc_layout_new(e.c)
	l.control_fd, l.frames_fd, l.scrap_fd = C.int(mem.Control.FD()), C.int(mem.Frames.FD()), C.int(scrap.FD())
	l.frames_len, l.scrap_len = C.uint64_t(len(mem.Frames.Bytes())), C.uint64_t(len(scrap.Bytes()))
	l.stack_top, l.limit = C.uint32_t(stackTop), C.uint64_t(limit)
	if state != nil {
		l.slots_fd, l.slots_len = C.int(state.region.FD()), C.uint64_t(len(state.mem))
		l.slot_bytes = C.uint32_t(state.bytes)
	}
	return layout{l}
}

// close unmaps what is out of use; call it after the last instance is closed.
func (l layout) close() { C.sfc_layout_delete(l.c) }

// instance is one guest. Calls into it must not overlap.
type instance struct {
	c     *C.struct_sfc_instance
	owner *tenant // whose account has bytes for it
	bytes int64
}

// fault is how a guest's call ended badly.
type fault int

const (
	faultNone    fault = C.SFC_OK
	faultLink    fault = C.SFC_ERR_LINK
	faultTrap    fault = C.SFC_ERR_TRAP
	faultBudget  fault = C.SFC_ERR_BUDGET
	faultRefused fault = C.SFC_ERR_REFUSED
)

func (e *engine) instantiate(c code, l layout, log *logRing, budget time.Duration, tableLimit int) (*instance, fault, string) {
	var msg errBuf
	i := new(instance)
	rc := C.sfc_instance_new(e.c, c.pre, l.c, log.c, C.uint64_t(budget), C.uint64_t(tableLimit), &i.c, &msg[0])
	if rc != 0 {
		return nil, fault(rc), msg.String()
	}
	return i, faultNone, ""
}

// configure hands over the configuration; code is the guest's own answer.
func (i *instance) configure(json []byte, budget time.Duration) (code int32, f fault, text string) {
	var msg errBuf
	var c C.int32_t
	rc := C.sfc_instance_configure(i.c, (*C.char)(unsafe.Pointer(unsafe.SliceData(json))), C.uint32_t(len(json)),
		C.uint64_t(budget), &c, &msg[0])
	return int32(c), fault(rc), msg.String()
}

func (i *instance) close() {
	C.sfc_instance_delete(i.c)
	if i.owner != nil {
		i.owner.releaseInstance(i.bytes)
	}
}

// memory returns n bytes of the guest's linear memory from address addr, as
// the host sees them. Valid until close.
func (i *instance) memory(addr, n uint32) []byte {
	return unsafe.Slice((*byte)(unsafe.Add(unsafe.Pointer(i.c.mem.base), addr)), n)
}

// setLog chooses the ring that sfc.log writes to.
func (i *instance) setLog(l *logRing) { i.c.log = l.c }

// counters returns the guest's counter page.
func (i *instance) counters() *[nf.NumCounters]uint64 {
	return (*[nf.NumCounters]uint64)(unsafe.Add(unsafe.Pointer(i.c.mem.base), nf.CountersStart))
}

// logRing holds lines written by sfc.log until they are read.
type logRing struct{ c *C.struct_sfc_log }

// newLogRing makes one whose lines are noted by a chain, which outlives it.
func newLogRing(q logQuota, noted chain) *logRing {
	c := (*C.struct_sfc_log)(C.calloc(1, C.sizeof_struct_sfc_log))
	c.quota, c.noted = q.c, &noted.c.noted
	return &logRing{c}
}

func (l *logRing) close() { C.free(unsafe.Pointer(l.c)) }

// next takes the oldest line. Only one goroutine may call it at a time.
func (l *logRing) next() (level uint8, text []byte, ok bool) {
	head := (*atomic.Uint32)(unsafe.Pointer(&l.c.head))
	tail := (*atomic.Uint32)(unsafe.Pointer(&l.c.tail))
	t := tail.Load()
	if t == head.Load() {
		return 0, nil, false
	}
	line := &l.c.line[t%C.SFC_LOG_LINES]
	text = C.GoBytes(unsafe.Pointer(&line.text[0]), C.int(line.len))
	level = uint8(line.level)
	tail.Store(t + 1)
	return level, text, true
}

// suppressed returns how many lines were over the rate or found no room.
func (l *logRing) suppressed() uint64 {
	return (*atomic.Uint64)(unsafe.Pointer(&l.c.suppressed)).Load()
}

func writeControl(control []byte, page nf.ControlPage) {
	*(*nf.ControlPage)(unsafe.Pointer(&control[0])) = page
}

// chain is the C side of a Group.
type chain struct{ c *C.struct_sfc_chain }

func newChain(control, frames []byte, ports uint64, nhops int, timeEvery uint64) chain {
	c := (*C.struct_sfc_chain)(C.calloc(1, C.sizeof_struct_sfc_chain))
	c.nhops = C.uint32_t(nhops)
	c.ports = C.uint64_t(ports)
	c.egress = C.uint16_t(bits.TrailingZeros64(ports))
	c.time_mask = C.uint64_t(timeEvery - 1)
	c.control = (*C.struct_sfc_control)(unsafe.Pointer(&control[0]))
	c.frames, c.frames_len = (*C.uint8_t)(&frames[0]), C.uint64_t(len(frames))
	c.desc = (*C.struct_sfc_desc)(unsafe.Pointer(&control[nf.DescStart-nf.WindowStart]))
	return chain{c}
}

func (c chain) close() { C.free(unsafe.Pointer(c.c)) }

// order is the functions of a path, in its order.
type order struct{ c C.struct_sfc_order }

// newOrder takes at most maxHops functions.
func newOrder(hops []int) (o order) {
	o.c.n = C.uint32_t(len(hops))
	for i, h := range hops {
		o.c.hop[i] = C.uint8_t(h)
	}
	return o
}

func (c chain) process(b *packet.Burst, o *order) (faulted uint32) {
	return uint32(C.sfc_chain_process(c.c, (*C.struct_sfc_burst)(unsafe.Pointer(b)), &o.c))
}

func (c chain) processTraced(b *packet.Burst, o *order, t *packet.HopTrace) (faulted uint32) {
	return uint32(C.sfc_chain_process_traced(c.c, (*C.struct_sfc_burst)(unsafe.Pointer(b)), &o.c, (*C.struct_sfc_trace)(unsafe.Pointer(t))))
}

func (c chain) tick(nowNs uint64) (faulted uint32) {
	return uint32(C.sfc_chain_tick(c.c, C.uint64_t(nowNs)))
}

func (c chain) flowEnd(slots []uint32) (faulted uint32) {
	return uint32(C.sfc_chain_flow_end(c.c, (*C.uint32_t)(unsafe.SliceData(slots)), C.uint32_t(len(slots))))
}

// note says that there is something for the janitor. Any thread may.
func (c chain) note(e *engine) {
	(*atomic.Uint32)(unsafe.Pointer(&c.c.noted)).Store(1)
	C.sfc_engine_note(e.c)
}

// noted says so, once.
func (c chain) noted() bool {
	return (*atomic.Uint32)(unsafe.Pointer(&c.c.noted)).Swap(0) != 0
}

// setBudget sets the budget of hop h; its instance starts as none (suspended).
func (c chain) setBudget(e *engine, h int, budget time.Duration) {
	c.c.hop[h].budget_ns = C.uint64_t(budget)
	C.sfc_ticker_budget(C.sfc_engine_ticker(e.c), C.uint64_t(budget))
}

// setInstance gives hop h an instance; nil: none.
func (c chain) setInstance(h int, i *instance) {
	if i == nil {
		c.c.hop[h].inst = nil
		return
	}
	c.c.hop[h].inst = i.c
}

// lateNs returns the CPU time of hop h's last overrun; 0 after other faults.
func (c chain) lateNs(h int) uint64 { return uint64(c.c.hop[h].late_ns) }

// trap returns the message of hop h's last trap.
func (c chain) trap(h int) string { return printable(C.GoString(&c.c.hop[h].trap[0])) }

// hopStats is what C counts for one version of a function.
type hopStats struct{ c *C.struct_sfc_stats }

func newHopStats() hopStats {
	return hopStats{(*C.struct_sfc_stats)(C.calloc(1, C.sizeof_struct_sfc_stats))}
}

func (s hopStats) close() { C.free(unsafe.Pointer(s.c)) }

// read copies the counters; another goroutine may read while the worker adds,
// each word is whole.
func (s hopStats) read() (raw rawStats) {
	src := (*rawStats)(unsafe.Pointer(s.c))
	for i := range raw {
		raw[i] = atomic.LoadUint64(&src[i])
	}
	return raw
}

// The classes of Latency are those of C.
var (
	_ [latencyClasses - C.SFC_LATENCY]byte
	_ [C.SFC_LATENCY - latencyClasses]byte
)

// rawStats is struct sfc_stats as words.
type rawStats [C.sizeof_struct_sfc_stats / 8]uint64

// Indices into rawStats.
const (
	statBursts    = 0
	statPackets   = statBursts + 1
	statVerdicts  = statPackets + 1
	statReasons   = statVerdicts + C.SFC_VERDICTS
	statEngine    = statReasons + C.SFC_REASONS
	statSkipped   = statEngine + 16
	statTraps     = statSkipped + 1
	statOverruns  = statTraps + 1
	statTimedNs   = statOverruns + 1
	statTimedPkts = statTimedNs + 1
	statTimedMax  = statTimedPkts + 1
	statLatency   = statTimedMax + 1
)
