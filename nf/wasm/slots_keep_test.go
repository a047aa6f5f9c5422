package wasm

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"sfc/dataplane/keep"
	"sfc/dataplane/packet"
)

// shelf is a store that keeps for as long as the test runs.
func shelf(t *testing.T) keep.Store {
	s := keep.Adopted(nil, func(string, int) error { return nil }, func(string) error { return nil })
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// keptGroup makes a group of one function whose slots lie on a shelf.
func keptGroup(t *testing.T, b *bed, s keep.Store, name string, v guest, worker uint32, adopt bool) *Group {
	t.Helper()
	g, err := b.f.rt.NewGroup(b.f.mem, []Hop{{Name: name, Module: b.module(v), Config: config(1)}},
		GroupOptions{Flows: 100, Ports: 2, Events: b.rec.add, Budget: time.Second, Worker: worker, Slots: Slots{Store: s, Name: "slots/acme/edge", Adopt: adopt}})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// survive is the environment variable that makes the test binary a process that
// is killed, or its successor.
const survive = "SFC_TEST_SURVIVE"

// flowSlots are what the test's flows have.
var flowSlots = []uint32{0, 1, 77, 500, 999}

// A process that runs a group is killed in the middle of its bursts; the next
// one finds what its functions kept of each flow, and goes on from there.
func TestStateSurvivesKill(t *testing.T) {
	if os.Getenv(survive) != "" {
		surviving(t)
		return
	}
	var files []*os.File
	var names []string
	for round := range 3 {
		cmd := exec.Command(os.Args[0], "-test.run=^TestStateSurvivesKill$")
		cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d", survive, round+1), "SFC_TEST_NAMES="+strings.Join(names, ","))
		cmd.ExtraFiles = files
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ready := false
		for lines := bufio.NewScanner(out); !ready && lines.Scan(); {
			var name string
			var fd int
			if n, _ := fmt.Sscanf(lines.Text(), "keep %d %s", &fd, &name); n == 2 {
				f, err := os.OpenFile(fmt.Sprintf("/proc/%d/fd/%d", cmd.Process.Pid, fd), os.O_RDWR, 0)
				if err != nil {
					t.Error(err)
					break
				}
				defer f.Close()
				files, names = append(files, f), append(names, name)
			}
			if _, problem, ok := strings.Cut(lines.Text(), "wrong: "); ok {
				t.Error(problem)
			}
			ready = lines.Text() == "ready"
		}
		time.Sleep(time.Duration(round) * 7 * time.Millisecond) // into its bursts
		if err := cmd.Process.Kill(); err != nil {
			t.Error(err)
		}
		err = cmd.Wait()
		var exit *exec.ExitError
		if !ready || !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
			t.Fatalf("round %d: ready %v, %v", round, ready, err)
		}
	}
	if len(names) != 2 {
		t.Errorf("two functions keep %q", names)
	}
}

// surviving runs until it is killed. Its predecessors have sent every flow one
// burst of 10 packets each, and one flow any number.
func surviving(t *testing.T) {
	var life uint64
	fmt.Sscan(os.Getenv(survive), &life)
	files := map[string]*os.File{}
	if names := os.Getenv("SFC_TEST_NAMES"); names != "" {
		for i, n := range strings.Split(names, ",") {
			files[n] = os.NewFile(uintptr(3+i), n)
		}
	}
	s := keep.Adopted(files, func(name string, fd int) error {
		fmt.Printf("keep %d %s\n", fd, name)
		return nil
	}, func(string) error { return nil })
	f := &fixture{rt: openRuntime(t), mem: newMemory(t, packet.BurstSize)}
	var hops []Hop
	for i, name := range []string{"flow_counts", "empty", "flow_counts"} {
		m, err := f.rt.Compile(module(t, name))
		if err != nil {
			t.Fatal(err)
		}
		hops = append(hops, Hop{Name: fmt.Sprint("f", i), Module: m, Config: []byte("{}")})
	}
	var err error
	if f.group, err = f.rt.NewGroup(f.mem, hops, GroupOptions{Flows: 1001, Ports: 2, Slots: Slots{Store: s, Adopt: true}}); err != nil {
		t.Fatal(err)
	}
	burst := func(slots []uint32) {
		f.fill(packet.BurstSize, 60)
		for k := range f.mem.Descs() {
			f.mem.Descs()[k].Slot = slots[k%len(slots)]
		}
		f.group.Process(&f.burst)
	}
	for _, h := range []int{0, 2} {
		for i, slot := range flowSlots {
			per := uint64(packet.BurstSize / len(flowSlots))
			if i < packet.BurstSize%len(flowSlots) {
				per++
			}
			if got := count(f.group.hops[h], int(slot)); got != per*(life-1) {
				fmt.Printf("wrong: function %d, slot %d: %d packets before life %d, want %d\n", h, slot, got, life, per*(life-1))
			}
		}
	}
	burst(flowSlots)
	fmt.Println("ready")
	for {
		burst([]uint32{1000})
	}
}

// A layout that changes under traffic leaves one set of slots behind, that of
// the version in service; what is prepared, discarded or went back leaves none.
func TestKeptSlotsFollowVersions(t *testing.T) {
	b := newBed(t, v1, 1, GroupOptions{})
	s := shelf(t)
	g := keptGroup(t, b, s, "fw", v1, 0, true)
	defer g.Close()
	expect := func(when string, want int) {
		t.Helper()
		for range 200 { // of 10 ms: the janitor comes every 100
			if len(s.Names()) == want {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
		t.Errorf("%s: %q", when, s.Names())
	}
	expect("at first", 1)
	first := s.Names()
	prepare := func() *Replacement {
		t.Helper()
		r, err := g.Prepare(0, Hop{Module: b.module(v3), Config: config(1)}, ReplaceOptions{Probation: -1})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	r := prepare()
	expect("prepared", 2)
	r.Discard()
	expect("discarded", 1)
	r = prepare()
	if err := r.Install(); err != nil {
		t.Fatal(err)
	}
	if err := r.RollBack("test"); err != nil {
		t.Fatal(err)
	}
	expect("rolled back", 1)
	if !slices.Equal(s.Names(), first) {
		t.Errorf("%q are left, and %q ran first", s.Names(), first)
	}
	r = prepare()
	if err := r.Install(); err != nil {
		t.Fatal(err)
	}
	for range 200 {
		if g.Tick(0); r.Status().Phase == Accepted {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	expect("accepted", 1)
	if slices.Equal(s.Names(), first) {
		t.Errorf("the old version's slots are left: %q", s.Names())
	}
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	expect("closed", 1)
	if err := ForgetSlots(s, "slots/acme"); err != nil {
		t.Fatal(err)
	}
	expect("forgotten", 0)
}

// Slots that another flow table had are not used, nor those of other functions
// and layouts of this worker; those of other workers and chains stay.
func TestKeptSlotsOfOthers(t *testing.T) {
	b := newBed(t, v1, 1, GroupOptions{})
	s := shelf(t)
	group := func(name string, worker uint32, adopt bool) *Group {
		return keptGroup(t, b, s, name, v1, worker, adopt)
	}
	write := func(g *Group, n byte) {
		g.hops[0].cur.Load().slots.mem[0] = n
		g.Close()
	}
	read := func(g *Group) byte {
		defer g.Close()
		return g.hops[0].cur.Load().slots.mem[0]
	}
	write(group("fw", 0, true), 7)
	write(group("fw", 1, true), 8)
	if n := read(group("fw", 0, true)); n != 7 {
		t.Errorf("worker 0 finds %d", n)
	}
	if n := read(group("fw", 0, false)); n != 0 {
		t.Errorf("without its flow table, worker 0 finds %d", n)
	}
	if n := read(group("fw", 1, true)); n != 8 {
		t.Errorf("worker 1 finds %d", n)
	}
	if len(s.Names()) != 2 {
		t.Errorf("%q are kept", s.Names())
	}
	other := group("other", 1, true)
	if n := read(other); n != 0 {
		t.Errorf("another function finds %d", n)
	}
	same := []Hop{{Name: "fw", Module: b.module(v1)}, {Name: "fw", Module: b.module(v1)}}
	if _, err := b.f.rt.NewGroup(b.f.mem, same, GroupOptions{Flows: 100, Slots: Slots{Store: s}}); err == nil || !strings.Contains(err.Error(), "name fw") {
		t.Errorf("two functions of one name: %v", err)
	}
	if n := read(group("fw", 1, true)); n != 0 {
		t.Errorf("a function that was gone finds %d", n)
	}
	if len(s.Names()) != 2 {
		t.Errorf("%q are kept", s.Names())
	}
}

// A version of another layout finds what the one before it kept, also if the
// process ended while it was being handed over; and so does the one before, if
// that is what runs then.
func TestKeptSlotsHandedOver(t *testing.T) {
	for _, tt := range []struct {
		name   string
		during bool // v3 was installed when the process ended, and had seen slot 5
		next   guest
		want   [2]uint64 // counts of slots 5 and 6, 3 packets before
	}{
		{"at a start", false, v3, [2]uint64{4, 4}},
		{"under way", true, v3, [2]uint64{5, 4}},
		{"under way, and not wanted", true, v1, [2]uint64{4, 4}},
		{"under way, and one of the first layout", true, v2, [2]uint64{4, 4}},
		{"of another function", false, guest{name: "others", number: 3, format: 2}, [2]uint64{1, 1}},
		{"that cannot", false, guest{number: 3, format: 2, bare: true}, [2]uint64{1, 1}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b, s := newBed(t, v1, 1, GroupOptions{}), shelf(t)
			own := b.f.group
			defer func() { b.f.group = own }()
			b.f.group = keptGroup(t, b, s, "fw", v1, 0, true)
			for range 3 {
				b.send([]uint32{5, 6})
			}
			if tt.during {
				b.swap(v3, ReplaceOptions{Probation: time.Hour})
				b.send([]uint32{5})
			}
			if err := b.f.group.Close(); err != nil {
				t.Fatal(err)
			}
			b.f.group = keptGroup(t, b, s, "fw", tt.next, 0, true)
			defer b.f.group.Close()
			for k, got := range b.send([]uint32{5, 6}) {
				if got.version != tt.next.number || got.count != tt.want[k] {
					t.Errorf("slot %d: version %d counts %d, want %d and %d", 5+k, got.version, got.count, tt.next.number, tt.want[k])
				}
			}
			if names := s.Names(); len(names) != 1 {
				t.Errorf("%q are kept", names)
			}
		})
	}
}

// A version that fails at the state of before starts with what it has read until
// then, and says so.
func TestKeptSlotsThatCannotBeRead(t *testing.T) {
	b, s := newBed(t, v1, 1, GroupOptions{}), shelf(t)
	own := b.f.group
	defer func() { b.f.group = own }()
	b.f.group = keptGroup(t, b, s, "fw", v1, 0, true)
	b.send([]uint32{5, 90})
	binary.LittleEndian.PutUint64(b.f.group.hops[0].cur.Load().slots.of(50), countTraps)
	b.f.group.Close()
	b.f.group = keptGroup(t, b, s, "fw", v3, 0, true)
	defer b.f.group.Close()
	if got := b.send([]uint32{5, 50, 90}); got[0].count != 2 || got[1].count != 1 || got[2].count != 1 {
		t.Errorf("%v", got)
	}
	if alarms := b.rec.of(EventAlarm); len(alarms) != 1 || !strings.Contains(alarms[0], "given up after 2 flows: sfc_slot_migrate") {
		t.Errorf("alarms %q", alarms)
	}
	if len(s.Names()) != 1 {
		t.Errorf("%q are kept", s.Names())
	}
}
