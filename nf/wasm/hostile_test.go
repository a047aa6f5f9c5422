package wasm

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sfc/dataplane/arena"
	"sfc/dataplane/packet"
	"sfc/testbed/gate"
)

// expectation is the ";; expect: kind: text" line of a module.
type expectation struct{ kind, text string }

// readModule returns a module of testdata and what it expects.
func readModule(t *testing.T, path string) (wasm []byte, want expectation) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	_, line, ok := strings.Cut("\n"+string(text), "\n;; expect: ")
	line, _, _ = strings.Cut(line, "\n")
	if ok {
		want.kind, want.text, ok = strings.Cut(line, ": ")
	}
	switch {
	case filepath.Ext(path) == ".bin":
		return text, expectation{"refused", ""}
	case !ok:
		t.Fatalf("%s has no line ;; expect: kind: text", path)
	}
	return assemble(t, path, text), want
}

// TestHostileModules runs every module of testdata/hostile and compares what
// comes of it with what the file says. To try another, add a file.
func TestHostileModules(t *testing.T) {
	files, err := filepath.Glob("testdata/hostile/*.*")
	if err != nil || len(files) < 50 {
		t.Fatalf("%d modules found: %v", len(files), err)
	}
	rt := openRuntime(t)
	owner, err := rt.enter("hostile") // keeps the tenant's scrap until the end
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := rt.leave(owner); err != nil {
			t.Error(err)
		}
	}()
	for _, path := range files {
		t.Run(filepath.Base(path), func(t *testing.T) {
			gate.Leaks(t)
			wasm, want := readModule(t, path)
			h := &hostile{rt: rt, want: want}
			h.run(t, wasm)
		})
	}
}

// hostile is one module on trial.
type hostile struct {
	rt   *Runtime
	want expectation
	fixture

	mu      sync.Mutex
	events  []Event
	records []Record
}

func (h *hostile) run(t *testing.T, wasm []byte) {
	m, err := h.rt.Compile(wasm)
	if h.want.kind == "refused" {
		if err == nil {
			m.Close()
			t.Fatal("was not refused")
		}
		if !strings.Contains(err.Error(), h.want.text) {
			t.Errorf("refused with %q, want %q in it", err, h.want.text)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	h.mem = newMemory(t, packet.BurstSize)
	h.group, err = h.rt.NewGroup(h.mem, []Hop{{Name: "guest", Module: m, Config: []byte("{}")}}, GroupOptions{
		Tenant: "hostile", Ports: 2, ConfigureBudget: 20 * time.Millisecond, TimeEvery: 1,
		Events: func(e Event) {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.events = append(h.events, e)
		},
		Records: h.take,
	})
	if h.want.kind == "instantiate" || h.want.kind == "configure" {
		h.checkMake(t, err)
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer h.group.Close()
	h.checkRun(t)
}

// checkMake is for modules that do not get as far as a packet.
func (h *hostile) checkMake(t *testing.T, err error) {
	if err == nil {
		h.group.Close()
		t.Fatal("instance was made")
	}
	kind, code, _ := strings.Cut(h.want.text, " ")
	sentinel := map[string]error{"trap": ErrTrap, "budget": ErrBudget, "refused": ErrConfigRefused}[kind]
	if sentinel == nil || !errors.Is(err, sentinel) || !strings.Contains(err.Error(), "function guest") ||
		!strings.Contains(err.Error(), code) {
		t.Errorf("got %q, want %s", err, h.want.text)
	}
}

// burst64 sends a burst of 100-byte packets and returns how long the path took.
func (h *hostile) burst64() time.Duration {
	h.fill(packet.BurstSize, 100)
	start := time.Now()
	h.group.Process(&h.burst)
	return time.Since(start)
}

// all checks that every packet of the burst had the same outcome.
func (h *hostile) all(t *testing.T, ok func(packet.Outcome) bool) {
	t.Helper()
	for k := range packet.BurstSize {
		if o := h.burst.Out[k]; !ok(o) {
			t.Fatalf("packet %d: %+v (%s), want %s", k, o, h.group.ReasonName(o), h.want.text)
		}
	}
}

func (h *hostile) checkRun(t *testing.T) {
	engineReason := func(name string) func(packet.Outcome) bool {
		return func(o packet.Outcome) bool {
			return o.Verdict == packet.Drop && h.group.ReasonName(o) == "guest."+name
		}
	}
	switch h.want.kind {
	case "fault":
		took := h.burst64()
		reason := map[string]string{"trap": "fault", "budget": "budget"}[h.want.text]
		h.all(t, engineReason(reason))
		t.Logf("back at work after %v", took)
		h.checkReplaced(t)
	case "tick":
		h.burst64()
		h.group.Tick(1)
		if s := h.group.Stats()[0]; s.Traps+s.Overruns != 1 {
			t.Errorf("%d traps, %d overruns", s.Traps, s.Overruns)
		}
	case "drop":
		h.burst64()
		h.all(t, engineReason(h.want.text))
	case "verdict":
		v := map[string]packet.Verdict{"next": packet.Tx, "tx": packet.Tx, "pass": packet.Pass, "drop": packet.Drop}[h.want.text]
		for range 3 {
			h.burst64()
			h.all(t, func(o packet.Outcome) bool { return o.Verdict == v && o.Fault == 0 })
		}
	case "rare":
		h.checkRare(t)
	case "limit":
		switch h.want.text {
		case "log":
			h.checkLog(t)
		case "ports":
			h.checkPorts(t)
		case "records":
			h.checkRecords(t)
		case "record flood":
			h.checkRecordFlood(t)
		default:
			h.checkMemory(t)
		}
	default:
		t.Fatalf("unknown expectation %q", h.want.kind)
	}
}

// checkReplaced expects that a spare takes over after the back-off, and that a
// function that faults all the time ends in quarantine, with an alarm.
func (h *hostile) checkReplaced(t *testing.T) {
	deadline := time.Now().Add(20 * time.Second)
	for State(h.group.hops[0].cur.Load().state.Load()) != Quarantined {
		if time.Now().After(deadline) {
			t.Fatalf("no quarantine; %+v", h.group.Stats()[0])
		}
		h.burst64()
		time.Sleep(100 * time.Microsecond)
		h.group.hops[0].cur.Load().resumeAt = time.Time{} // do not wait the back-off out
	}
	s := h.group.Stats()[0]
	if n := s.Traps + s.Overruns; s.Overruns == 0 && n != quarantineAfter || n > quarantineAfter {
		t.Errorf("%d faults before the quarantine, want %d", n, quarantineAfter)
	}
	h.burst64()
	h.all(t, func(o packet.Outcome) bool { return h.group.ReasonName(o) == "guest.suspended" })
	if s.LastFault == "" {
		t.Error("the last fault has no message")
	}
}

// checkRare expects one fault in N packets, and no other packet harmed but
// those of its burst.
func (h *hostile) checkRare(t *testing.T) {
	_, n, _ := strings.Cut(h.want.text, " ")
	every, err := strconv.Atoi(n)
	if err != nil {
		t.Fatal(err)
	}
	bad, good := 0, 0
	for sent := 0; sent+packet.BurstSize <= every+packet.BurstSize; sent += packet.BurstSize {
		h.burst64()
		if h.burst.Out[0].Verdict == packet.Tx {
			good++
		} else {
			h.all(t, func(o packet.Outcome) bool { return h.group.ReasonName(o) == "guest.fault" })
			bad++
		}
	}
	if bad != 1 || good == 0 {
		t.Errorf("%d bursts faulted and %d did not, want 1 and the rest", bad, good)
	}
}

// checkLog expects few, short, printable lines.
func (h *hostile) checkLog(t *testing.T) {
	for range 100 {
		h.burst64()
		h.all(t, func(o packet.Outcome) bool { return o.Verdict == packet.Tx })
	}
	h.group.drainLogs()
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.events) == 0 || len(h.events) > 64 {
		t.Errorf("%d log lines of %d bursts", len(h.events), 100)
	}
	for _, e := range h.events {
		for _, r := range e.Text {
			if r < ' ' || r > '~' {
				t.Fatalf("log line %q has unprintable characters", e.Text)
			}
		}
		if len(e.Text) > 4*256 {
			t.Errorf("log line of %d bytes", len(e.Text))
		}
	}
	if h.group.Stats()[0].LogSuppressed == 0 {
		t.Error("no line was suppressed")
	}
}

// checkPorts expects ports that exist in every outcome, while a spare is being
// configured (20 ms at most) and after.
func (h *hostile) checkPorts(t *testing.T) {
	for start := time.Now(); time.Since(start) < 50*time.Millisecond; {
		h.burst64()
		for k, o := range h.burst.Out {
			if o.Verdict == packet.Tx && o.Port >= 2 {
				t.Fatalf("packet %d leaves by port %d of 2", k, o.Port)
			}
		}
	}
	if s := h.group.Stats()[0]; s.Traps != 1 || s.Faulted["bad_port"] == 0 {
		t.Errorf("the spare never met a burst: %+v", s)
	}
}

// checkMemory expects that the host's memory grows by no more than the
// function's limit and the tenant's scrap.
func (h *hostile) checkMemory(t *testing.T) {
	before := h.resident(t)
	for range 5 {
		h.burst64()
		h.all(t, func(o packet.Outcome) bool { return o.Verdict == packet.Tx || h.group.ReasonName(o) != "" })
	}
	grown := h.resident(t) - before
	limit := h.rt.opts.Limits.WithDefaults().PrivateBytes + h.rt.opts.ScrapBytes + 4<<20
	t.Logf("host memory grew by %.1f MiB", float64(grown)/(1<<20))
	if grown > limit {
		t.Errorf("grew by %d bytes, limit %d", grown, limit)
	}
}

// resident returns the memory in bytes that the process has of its own, and
// that the regions have which guests can reach. (VmRSS would count a page of
// scrap as often as it is mapped.)
func (h *hostile) resident(t *testing.T) int {
	t.Helper()
	shared := 0
	for _, r := range []*arena.Region{h.rt.tenants["hostile"].scrap, h.mem.Control, h.mem.Frames} {
		var st unix.Stat_t
		if err := unix.Fstat(r.FD(), &st); err != nil {
			t.Fatal(err)
		}
		shared += int(st.Blocks) * 512
	}
	return shared + anonymousKiB(t)<<10
}

// anonymousKiB is the memory that the process has of its own.
func anonymousKiB(t *testing.T) (kib int) {
	t.Helper()
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if _, err := fmt.Sscanf(line, "RssAnon: %d kB", &kib); err == nil {
			return kib
		}
	}
	t.Fatal("no RssAnon in /proc/self/status")
	return 0
}
