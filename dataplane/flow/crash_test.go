package flow

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"math/bits"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sfc/dataplane/steer"
	"sfc/testbed/gate"
)

// Environment of a process that works on the memory in descriptor 3.
const (
	crashMode = "FLOW_TEST_CRASH" // kill or step
	crashSeed = "FLOW_TEST_SEED"
)

// stepsTraced is how many steps TestKilledBetweenAnyTwo goes through: some 3,000
// instructions each, which take 20 us each.
func stepsTraced() int {
	if n, err := strconv.Atoi(os.Getenv("TEST_STEPS")); err == nil {
		return n
	}
	return 25
}

// crashChild is that process.
func crashChild(mode string) int {
	runtime.LockOSThread()
	debug.SetGCPercent(-1)
	full := mode == "step"
	mem, err := unix.Mmap(3, 0, subjectBytes(subjectOptions(full)), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	seed, err := strconv.ParseUint(os.Getenv(crashSeed), 10, 64)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	s, _, err := openSubject(mem, full, seed)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	s.record()
	if mode == "kill" {
		s.run(math.MaxInt, func() {}, func() {})
	}
	phase, pid, tid := wordAt(mem, atPhase), unix.Getpid(), unix.Gettid()
	fmt.Println(tid)
	for phase.Load() == 0 { // until the other process traces this thread
		runtime.Gosched()
	}
	s.run(stepsTraced(), func() {
		phase.Store(1)
		if err := unix.Tgkill(pid, tid, unix.SIGSTOP); err != nil {
			panic(err)
		}
	}, func() { phase.Store(0) })
	return 0
}

// startChild starts a process on the memory. out is what it prints.
func startChild(t *testing.T, mode string, fd int, seed uint64) (cmd *exec.Cmd, out io.Reader) {
	t.Helper()
	own, err := dupOf(fd)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(own), "memory")
	defer f.Close()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd = exec.Command(exe)
	cmd.Env = append(os.Environ(), crashMode+"="+mode, crashSeed+"="+strconv.FormatUint(seed, 10), "GODEBUG=asyncpreemptoff=1", "GOMAXPROCS=2")
	cmd.ExtraFiles, cmd.Stderr = []*os.File{f}, os.Stderr
	if out, err = cmd.StdoutPipe(); err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	return cmd, out
}

// inspect makes tables of a copy of the memory and says what is in them.
func inspect(mem []byte, full bool) (all [subjectTuples]fact, evicted uint64, found [2]Restored, err error) {
	s, found, err := openSubject(mem, full, 0)
	if err != nil {
		return all, 0, found, err
	}
	defer s.close()
	if err := s.sound(); err != nil {
		return all, 0, found, err
	}
	return s.census(), s.evicted, found, nil
}

// A process is killed at random moments, 200 times over, and each time the next
// one goes on with its memory. Every flow that the step under way was not about
// is there, with all that is known of it and all that it held; no flow has
// another one's state, and nothing is held by nobody.
func TestKilled(t *testing.T) {
	seed := testSeed(t)
	rng := rand.New(rand.NewPCG(seed, 3))
	region := newRegion(t, false)
	mem := region.Bytes()
	kills := 200
	if testing.Short() {
		kills = 20
	}
	var sum Restored
	steps := uint64(0)
	for life := range kills {
		done, begun := wordAt(mem, atDone), wordAt(mem, atDone).Load()
		cmd, _ := startChild(t, "kill", region.FD(), seed+uint64(life))
		for until := time.Now().Add(20 * time.Second); done.Load() < begun+2 && time.Now().Before(until); {
			time.Sleep(200 * time.Microsecond)
		}
		time.Sleep(time.Duration(rng.IntN(2000)) * time.Microsecond)
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err == nil || done.Load() < begun+2 {
			t.Fatalf("life %d: %v after %d steps", life, err, done.Load()-begun)
		}
		steps += done.Load() - begun
		before := journal(mem, done.Load())
		touched := binary.LittleEndian.Uint64(mem[atTouched:])
		got, _, found, err := inspect(bytes.Clone(mem), false)
		if err != nil {
			t.Fatalf("life %d: %v", life, err)
		}
		for i := range got {
			if err := checkKilled(mem, uint32(i), before[i], got[i], touched>>i&1 != 0); err != nil {
				t.Fatalf("life %d, step %d: %v", life, done.Load()+1, err)
			}
		}
		for _, r := range found {
			sum.Flows, sum.Bindings, sum.Ended, sum.Leaving = sum.Flows+r.Flows, sum.Bindings+r.Bindings, sum.Ended+r.Ended, sum.Leaving+r.Leaving
			sum.Arriving, sum.Torn, sum.LostBinds, sum.LostClaims = sum.Arriving+r.Arriving, sum.Torn+r.Torn, sum.LostBinds+r.LostBinds, sum.LostClaims+r.LostClaims
		}
	}
	t.Logf("%d kills in %d steps: %+v", kills, steps, sum)
	if sum.Flows < kills || sum.Bindings == 0 {
		t.Error("too little was there to be lost")
	}
}

// checkKilled says what is wrong with a flow.
func checkKilled(mem []byte, i uint32, before, got fact, touched bool) error {
	gen := binary.LittleEndian.Uint32(mem[atGen+8*i:])
	switch {
	case !touched && got != before:
		return fmt.Errorf("flow %d was %+v and is %+v", i, before, got)
	case got.live != 0 && got.gen != 0 && got.gen != before.gen && got.gen != gen:
		return fmt.Errorf("flow %d was %+v and is %+v, begun %d times", i, before, got, gen)
	}
	return nil
}

// The same between any two instructions: a process is gone through one by one
// while its tables, which are always full, do all that they can, and after each
// that changed the memory what a next process would make of it is looked at. A
// flow that is there before a step and after it is there all the time.
func TestKilledBetweenAnyTwo(t *testing.T) {
	if gate.Race {
		t.Skip("with the race detector the instructions are not those that run")
	}
	// ptrace is for the thread that began it, which ends with the test.
	runtime.LockOSThread()
	seed := testSeed(t)
	region := newRegion(t, true)
	mem := region.Bytes()
	cmd, out := startChild(t, "step", region.FD(), seed)
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	var tid int
	if _, err := fmt.Fscan(out, &tid); err != nil {
		t.Fatal(err)
	}
	if err := unix.PtraceAttach(tid); err != nil {
		t.Skipf("trace a child process: %v", err)
	}
	// On one core each hands over to the other at once.
	var own, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &own); err != nil {
		t.Fatal(err)
	}
	for cpu := range 1024 {
		if own.IsSet(cpu) {
			one.Set(cpu)
			break
		}
	}
	if err := errors.Join(unix.SchedSetaffinity(0, &one), unix.SchedSetaffinity(tid, &one)); err != nil {
		t.Fatal(err)
	}
	x := &tracer{tid: tid, mem: mem}
	if _, err := x.wait(); err != nil {
		t.Fatal(err)
	}
	wordAt(mem, atPhase).Store(1)
	for range stepsTraced() {
		if err := x.step(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d steps, %d instructions, %d states of the memory", stepsTraced(), x.instructions, x.states)
	if x.states < 5*stepsTraced() {
		t.Error("too few states were looked at")
	}
}

// tracer goes through a thread instruction by instruction.
type tracer struct {
	tid                  int
	mem                  []byte
	images               [][]byte
	instructions, states int
}

// wait waits until the thread stands still.
func (x *tracer) wait() (unix.Signal, error) {
	var ws unix.WaitStatus
	for {
		_, err := unix.Wait4(x.tid, &ws, unix.WALL, nil)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return 0, fmt.Errorf("wait for the traced thread: %w", err)
		case !ws.Stopped():
			return 0, fmt.Errorf("the traced thread ended: %#x", ws)
		}
		return ws.StopSignal(), nil
	}
}

// step goes through one step and checks every state that the memory was in.
func (x *tracer) step() error {
	for sig := unix.Signal(0); sig != unix.SIGSTOP; {
		if err := unix.PtraceCont(x.tid, 0); err != nil {
			return err
		}
		var err error
		if sig, err = x.wait(); err != nil {
			return err
		}
	}
	before := journal(x.mem, wordAt(x.mem, atDone).Load())
	x.images = append(x.images[:0], bytes.Clone(x.mem))
	for phase := wordAt(x.mem, atPhase); phase.Load() == 1; x.instructions++ {
		if err := unix.PtraceSingleStep(x.tid); err != nil {
			return err
		}
		if _, err := x.wait(); err != nil {
			return err
		}
		if last := x.images[len(x.images)-1]; !bytes.Equal(x.mem[atOwner:], last[atOwner:]) {
			x.images = append(x.images, bytes.Clone(x.mem))
		}
	}
	return x.check(before)
}

// check looks at what a next process makes of each state.
func (x *tracer) check(before [subjectTuples]fact) error {
	x.states += len(x.images)
	after, _, _, err := inspect(bytes.Clone(x.images[len(x.images)-1]), true)
	if err != nil {
		return fmt.Errorf("after the step: %w", err)
	}
	touched := binary.LittleEndian.Uint64(x.mem[atTouched:])
	for n, image := range x.images {
		got, evicted, found, err := inspect(image, true)
		if err != nil {
			return fmt.Errorf("state %d of %d: %w", n, len(x.images), err)
		}
		for i := range got {
			err := checkStep(before[i], after[i], got[i], touched>>i&1 != 0)
			if s := State(before[i].state); err != nil && evicted > 0 && got[i].live == 0 && s != Open && s != Closing {
				evicted-- // another one than went when the process lived on
				continue
			}
			if err != nil {
				return fmt.Errorf("state %d of %d, flow %d, about %b, %+v: %w", n, len(x.images), i, touched, found, err)
			}
		}
	}
	return nil
}

// checkStep says what is wrong with a flow in the middle of a step.
func checkStep(before, after, got fact, touched bool) error {
	wrong := fmt.Errorf("before %+v, after %+v, found %+v", before, after, got)
	same := before.live != 0 && after.live != 0 && before.gen == after.gen
	promised := before.state == uint32(Opening) && before.bound != after.bound
	switch {
	case before == after && !touched:
		if got != before {
			return wrong
		}
	case got.live == 0:
		if same && !promised {
			return wrong
		}
	case same && (got.gen != before.gen ||
		got.bound&^(before.bound|after.bound) != 0 ||
		// One that finds no room where the flow goes is lost, whichever it is.
		bits.OnesCount32(got.bound) < min(bits.OnesCount32(before.bound), bits.OnesCount32(after.bound)) ||
		got.claimed&(before.claimed&after.claimed) != before.claimed&after.claimed || got.claimed&^(before.claimed|after.claimed) != 0):
		return wrong
	case got.gen == 0 || got.gen == after.gen && after.live != 0 || got.gen == before.gen && before.live != 0:
		// One of the two, or a new flow that no function has seen yet.
	case !touched || got.gen == ^uint32(0):
		return wrong
	}
	return nil
}

// The subject's flows are in buckets of their own: what is said of a flow that
// moves is said of its bucket.
func TestSubject(t *testing.T) {
	s, _, err := openSubject(newRegion(t, false).Bytes(), false, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	seen := map[uint16]uint32{}
	for i := range uint32(subjectTuples) {
		q := s.query(i, false)
		if other, ok := seen[steer.Bucket(q.hash)]; ok {
			t.Errorf("flows %d and %d are in one bucket", i, other)
		}
		seen[steer.Bucket(q.hash)] = i
	}
	s.record()
	s.run(5000, func() {}, func() {
		if err := s.sound(); err != nil {
			t.Fatal(err)
		}
	})
	if all := s.census(); all != journal(s.mem, s.done().Load()) {
		t.Error("the journal says something else")
	}
}
