package wasm

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
	"time"

	"sfc/dataplane/packet"
)

// guest describes a version of a test function, which counts the packets of
// every flow in its slot. In every frame it leaves
//
//	0  packets of the flow so far, 64 bits
//	8  the number of the version
//	9  the digit of the configuration {"id":N}
//
// A packet's mark chooses what else: see the constants.
type guest struct {
	name    string // default counts
	number  int    // minor version
	format  int    // of its state: 1 is 8 bytes, the count; 2 is 16 bytes, a tag and the count; 0 none
	layout  string
	live    bool
	reason  string // the one drop reason; default dropped
	counter string // the first counter: packets; default packets
	migrate string // body of sfc_slot_migrate; default: formats 1 and 2 are read
	bare    bool   // no sfc_slot_migrate
}

// Marks.
const (
	markTrap = 0xdead // traps
	markDrop = 0xd    // is dropped
)

// Digits of configurations.
const (
	configRefuse     = 9 // is refused
	configSlow       = 5 // takes some time
	configLiveRefuse = 8 // is refused by an instance that has one
	configLiveTrap   = 7 // makes such an instance trap
)

// countTraps is the count that sfc_slot_migrate traps at.
const countTraps = 0xbad

func (v guest) bytes() int { return 8 * v.format }

func (v guest) wat() []byte {
	or := func(s, def string) string {
		if s == "" {
			return def
		}
		return s
	}
	manifest := fmt.Sprintf(`{"name":%q,"version":"1.%d.0","abi":1,"flow_state_bytes":%d,"live_configure":%v,"counters":[%q,"ended","ended_packets","migrated"],"drop_reasons":[%q]`,
		or(v.name, "counts"), v.number, v.bytes(), v.live, or(v.counter, "packets"), or(v.reason, "dropped"))
	if v.layout != "" {
		manifest += fmt.Sprintf(`,"flow_state_layout":%q`, v.layout)
	}
	slot := func(of string) string {
		return fmt.Sprintf("(i32.add (i32.const 0x09000000) (i32.mul %s (i32.const %d)))", of, v.bytes())
	}
	count, tag := max(v.bytes()-8, 0), ""
	if v.format == 2 {
		tag = "(i64.store (local.get $s) (i64.const 0x7a9))"
	}
	state, exports := "", ""
	if v.format > 0 {
		state = fmt.Sprintf(`
      (if (i32.ne (i32.load offset=16 (local.get $d)) (i32.const -1)) (then
        (local.set $s %s)
        %s
        (local.set $c (i64.add (i64.load offset=%d (local.get $s)) (i64.const 1)))
        (i64.store offset=%d (local.get $s) (local.get $c))))`, slot("(i32.load offset=16 (local.get $d))"), tag, count, count)
		exports = fmt.Sprintf(`
  (func (export "sfc_flow_end") (param $slot i32) (local $s i32)
    (local.set $s %s)
    (call $add (i32.const 8) (i64.const 1))
    (call $add (i32.const 16) (i64.load offset=%d (local.get $s))))`, slot("(local.get $slot)"), count)
	}
	if v.format > 0 && !v.bare {
		body := or(v.migrate, fmt.Sprintf(`
    (local.set $s %s)
    (local.set $c (i64.load (i32.sub (i32.add (local.get $old) (local.get $len)) (i32.const 8))))
    (if (i64.eq (local.get $c) (i64.const %d)) (then unreachable))
    (i64.store (local.get $old) (i64.const -1)) ;; it is a copy
    %s
    (i64.store offset=%d (local.get $s) (local.get $c))
    (call $add (i32.const 24) (i64.const 1))`, slot("(local.get $slot)"), countTraps, tag, count))
		exports += fmt.Sprintf(`
  (func (export "sfc_slot_migrate") (param $old i32) (param $len i32) (param $slot i32) (local $s i32) (local $c i64) %s)`, body)
	}
	return fmt.Appendf(nil, `(module
  (@custom "sfc.manifest" "%s")
  (memory (export "memory") 4097 4097)
  (global $config (mut i32) (i32.const 0))
  (func (export "sfc_abi_v1"))
  (func $add (param $at i32) (param $n i64)
    (i64.store offset=0x08000000 (local.get $at) (i64.add (i64.load offset=0x08000000 (local.get $at)) (local.get $n))))
  (func (export "sfc_configure") (param $ptr i32) (param $len i32) (result i32)
    (local $id i32) (local $i i32)
    (local.set $id (i32.sub (i32.load8_u offset=6 (local.get $ptr)) (i32.const 48)))
    (if (i32.eq (local.get $id) (i32.const %d)) (then (return (i32.const 1))))
    (if (i32.eq (local.get $id) (i32.const %d)) (then
      (loop $again (br_if $again (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 3000000))))))
    (if (global.get $config) (then
      (if (i32.eq (local.get $id) (i32.const %d)) (then (return (i32.const 2))))
      (if (i32.eq (local.get $id) (i32.const %d)) (then unreachable))))
    (global.set $config (local.get $id))
    (i32.const 0))
  (func (export "sfc_process") (param $n i32)
    (local $d i32) (local $end i32) (local $s i32) (local $p i32) (local $c i64)
    (call $add (i32.const 0) (i64.extend_i32_u (local.get $n)))
    (local.set $d (i32.const 0x01001000))
    (local.set $end (i32.add (local.get $d) (i32.shl (local.get $n) (i32.const 6))))
    (loop $next
      (if (i32.eq (i32.load offset=36 (local.get $d)) (i32.const %d)) (then unreachable))
      (local.set $p (i32.add (i32.load (local.get $d)) (i32.load16_u offset=4 (local.get $d))))
      (local.set $c (i64.const 0))%s
      (i64.store (local.get $p) (local.get $c))
      (i32.store8 offset=8 (local.get $p) (i32.const %d))
      (i32.store8 offset=9 (local.get $p) (global.get $config))
      (i32.store offset=40 (local.get $d) (select (i32.const 0x10001) (i32.const 2) (i32.eq (i32.load offset=36 (local.get $d)) (i32.const %d))))
      (br_if $next (i32.lt_u (local.tee $d (i32.add (local.get $d) (i32.const 64))) (local.get $end)))))%s)`,
		strings.ReplaceAll(manifest+"}", `"`, `\"`), configRefuse, configSlow, configLiveRefuse, configLiveTrap,
		markTrap, state, v.number, markDrop, exports)
}

// config is the configuration with a digit.
func config(id int) []byte { return fmt.Appendf(nil, `{"id":%d}`, id) }

// bed is a group of one test function whose versions come and go.
type bed struct {
	tb      testing.TB
	f       *fixture
	rec     *recorder
	modules map[guest]*Module
}

// newBed makes a group with one version in every hop.
func newBed(tb testing.TB, first guest, hops int, opts GroupOptions) *bed {
	tb.Helper()
	b := &bed{tb: tb, rec: &recorder{}, modules: map[guest]*Module{}}
	b.f = &fixture{rt: openRuntime(tb), mem: newMemory(tb, packet.BurstSize)}
	if opts.Flows == 0 {
		opts.Flows = 1000
	}
	opts.Tenant, opts.Ports, opts.Events, opts.TimeEvery = "test", 2, b.rec.add, 1
	if opts.Budget == 0 {
		opts.Budget = time.Second // other tests run beside
	}
	var list []Hop
	for i := range hops {
		list = append(list, Hop{Name: fmt.Sprintf("f%d", i), Module: b.module(first), Config: config(1)})
	}
	var err error
	if b.f.group, err = b.f.rt.NewGroup(b.f.mem, list, opts); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := b.f.group.Close(); err != nil {
			tb.Error(err)
		}
	})
	return b
}

func (b *bed) module(v guest) *Module {
	b.tb.Helper()
	if b.modules[v] == nil {
		m, err := b.f.rt.Compile(assemble(b.tb, "guest", v.wat()))
		if err != nil {
			b.tb.Fatal(err)
		}
		b.tb.Cleanup(m.Close)
		b.modules[v] = m
	}
	return b.modules[v]
}

// prepare makes a replacement of hop 0.
func (b *bed) prepare(v guest, o ReplaceOptions) *Replacement {
	b.tb.Helper()
	r, err := b.f.group.Prepare(0, Hop{Module: b.module(v), Config: config(1)}, o)
	if err != nil {
		b.tb.Fatal(err)
	}
	return r
}

// swap replaces hop 0.
func (b *bed) swap(v guest, o ReplaceOptions) *Replacement {
	b.tb.Helper()
	r := b.prepare(v, o)
	if err := r.Install(); err != nil {
		b.tb.Fatal(err)
	}
	return r
}

// seen is what the function left in a packet.
type seen struct {
	count   uint64
	version int
	config  int
}

// send takes one packet of each slot through the group; marks go with them, the
// last one for all that are left.
func (b *bed) send(slots []uint32, marks ...uint32) []seen {
	b.f.fill(len(slots), 100)
	descs := b.f.mem.Descs()
	for k, s := range slots {
		descs[k].Slot, b.f.burst.Slot[k] = s, s
		if len(marks) > 0 {
			descs[k].Mark = marks[min(k, len(marks)-1)]
		}
	}
	b.f.group.Process(&b.f.burst)
	out := make([]seen, len(slots))
	for k := range out {
		p := b.f.burst.Frames[k].Bytes(b.f.mem.Frames.Bytes())
		out[k] = seen{binary.LittleEndian.Uint64(p), int(p[8]), int(p[9])}
	}
	return out
}

// expect sends one packet of each slot and compares what the function saw.
func (b *bed) expect(when string, version int, want map[uint32]uint64) {
	b.tb.Helper()
	var slots []uint32
	for s := range want {
		slots = append(slots, s)
	}
	for k, got := range b.send(slots) {
		if got.version != version || got.count != want[slots[k]] {
			b.tb.Errorf("%s: slot %d: version %d counted %d, want version %d and %d", when, slots[k], got.version, got.count, version, want[slots[k]])
		}
		if o := b.f.burst.Out[k]; o.Verdict != packet.Tx || o.Port != 1 {
			b.tb.Errorf("%s: slot %d: %+v", when, slots[k], o)
		}
	}
}

// settle waits until the janitor has freed what replacements left.
func (b *bed) settle() {
	b.tb.Helper()
	g := b.f.group
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		g.mu.Lock()
		left := len(g.replacements)
		g.mu.Unlock()
		if left == 0 {
			return
		}
		if time.Now().After(end) {
			b.tb.Fatalf("%d replacements are not settled", left)
		}
		g.Tick(0)
		select {
		case g.janitor.round <- struct{}{}:
		default:
		}
	}
}
