package nftest

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"sfc/dataplane/packet"
	"sfc/nf/build"
	"sfc/nf/wasm"
)

// swap puts a module in the function's place, on probation for that long.
func (s *Sandboxed) swap(tb testing.TB, m *wasm.Module, config []byte, probation time.Duration) *wasm.Replacement {
	tb.Helper()
	r, err := s.group.Prepare(0, wasm.Hop{Module: m, Config: config}, wasm.ReplaceOptions{Probation: probation})
	if err != nil {
		tb.Fatal(err)
	}
	if err := r.Install(); err != nil {
		tb.Fatal(err)
	}
	return r
}

// A function that keeps what it knows in its flow state decides the same when
// it is replaced again and again, and keeps the same of every flow.
func TestSwapChangesNothing(t *testing.T) {
	for name, config := range map[string]string{
		"firewall": `{"default":"deny","rules":[{"action":"permit","proto":"tcp"},{"action":"permit","src":"10.0.0.0/8"}]}`,
		"flowstat": `{}`,
	} {
		t.Run(name, func(t *testing.T) {
			const flows = 2000
			swapped, plain := newSandboxed(t, name), newSandboxed(t, name)
			g := newGen(testSeed(t))
			packets := g.talks(t, 6000)
			for _, s := range []*Sandboxed{swapped, plain} {
				if err := s.Configure([]byte(config)); err != nil {
					t.Fatal(err)
				}
			}
			for at, swaps := 0, 0; at < len(packets); swaps++ {
				n := min(g.IntN(200), len(packets)-at)
				want, got := plain.Process(packets[at:at+n]), swapped.Process(packets[at:at+n])
				for i := range want {
					if w, h := want[i], got[i]; w.Verdict != h.Verdict || w.Reason != h.Reason || !bytes.Equal(w.Frame, h.Frame) {
						t.Fatalf("packet %d, after %d swaps: %v %d, want %v %d", at+i, swaps, h.Verdict, h.Reason, w.Verdict, w.Reason)
					}
				}
				at += n
				swapped.swap(t, swapped.module, []byte(config), -1)
			}
			if !bytes.Equal(swapped.FlowState(flows), plain.FlowState(flows)) {
				t.Error("flow state differs")
			}
			want, got := plain.Counters(), swapped.Counters()
			for i := range want {
				if want[i] != got[i] {
					t.Errorf("counter %d is %d, want %d", i, got[i], want[i])
				}
			}
		})
	}
}

// counting is a function in C that counts packets per flow; struct flow and
// what else it has are its version's.
const counting = `#include "sfc.h"
%s
SFC_EXPORT(sfc_configure) int32_t sfc_configure(uint32_t ptr, uint32_t len) {
	(void)ptr, (void)len;
	return 0;
}
SFC_EXPORT(sfc_process) void sfc_process(uint32_t n) {
	struct sfc_desc *d = sfc_descs();
	for (uint32_t i = 0; i < n; i++) {
		struct flow *f = sfc_slot(&d[i], sizeof *f);
		f->packets++;
		*(uint64_t *)sfc_frame(&d[i]) = f->packets;
		sfc_next(&d[i]);
	}
}
`

// The versions: the second knows the first one's state.
const (
	counting1 = `struct flow { uint64_t packets; };`
	counting2 = `struct flow { uint64_t since_ns, packets; };
struct flow_v1 { uint64_t packets; };
SFC_EXPORT(sfc_slot_migrate) void sfc_slot_migrate(uint32_t old, uint32_t old_len, uint32_t slot) {
	struct flow *f = sfc_slot_of(slot, sizeof *f);
	const struct flow_v1 *v1 = sfc_old_state(old, old_len, sizeof *v1);
	if (!v1)
		return; // nothing we know: the flow starts anew
	f->packets = v1->packets;
}`
)

// counter builds a version of counting.
func counter(t *testing.T, version, bytes int, text string) []byte {
	t.Helper()
	dir := t.TempDir()
	manifest := fmt.Sprintf(`{"name":"counting","version":"%d.0.0","abi":1,"flow_state_bytes":%d,"flow_state_layout":"counting/%d"}`, version, bytes, version)
	for name, text := range map[string]string{"counting.c": fmt.Sprintf(counting, text), "manifest.json": manifest} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	path, err := build.Build(dir)
	if errors.Is(err, build.ErrNoCompiler) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	module, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return module
}

// Flow state goes from one version in C to the next through sfc_slot_migrate, as
// the SDK has it.
func TestMigrateInC(t *testing.T) {
	rt, err := wasm.Open(wasm.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer rt.Close()
	s, err := NewSandboxed(rt, counter(t, 1, 8, counting1))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Configure([]byte("{}")); err != nil {
		t.Fatal(err)
	}
	next, err := rt.Compile(counter(t, 2, 16, counting2))
	if err != nil {
		t.Fatal(err)
	}
	defer next.Close()
	expect := func(want uint64) {
		t.Helper()
		for flow := range uint32(100) {
			p := NewPacket(udp.Frame(), 0)
			p.Flow = flow + 1
			s.Fill([]Packet{p})
			s.burst.Slot[0] = flow
			s.Burst(1)
			frame := s.burst.Frames[0].Bytes(s.mem.Frames.Bytes())
			if got := uint64(frame[0]); got != want || s.burst.Out[0].Verdict != packet.Tx {
				t.Fatalf("flow %d: packet %d, want %d; %+v", flow, got, want, s.burst.Out[0])
			}
		}
	}
	expect(1)
	expect(2)
	r := s.swap(t, next, []byte("{}"), time.Hour)
	if st := r.Status(); st.State != "migrated" || st.Phase != wasm.Probation {
		t.Errorf("status %+v", st)
	}
	expect(3)
	expect(4)
}
