package bench

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"sfc/dataplane/cpu"
	"sfc/dataplane/packet"
	"sfc/testbed/gate"
)

// Two workers of one engine against two processes with one worker each, on the
// same two cores: what sharing tables and memory costs. In turn, A B A B. All
// workers run the stateful chain, each with the same number of flows, whose
// packets go to the worker that owns them as steering would send them. What a
// worker did counts while both were at work.
//
// `make bench-workers` runs it: SFC_WORKERS is the number of rounds, SFC_FLOWS
// the flows of each worker.
func TestTwoWorkers(t *testing.T) {
	rounds, err := strconv.Atoi(os.Getenv("SFC_WORKERS"))
	if err != nil || rounds < 1 {
		t.Skip("set SFC_WORKERS to the number of rounds, or run make bench-workers")
	}
	gate.Leaks(t)
	cores := cpu.Allowed()
	if len(cores) < 2 {
		t.Skip("needs 2 cores")
	}
	cores = cores[len(cores)-2:]
	fmt.Printf("\n### stateful chain, UDP of 64 bytes, %d rounds, medians\n\n", rounds)
	fmt.Print("| flows of each | 2 workers: Mpps | 2 processes: Mpps | workers / processes | by time on the core | all rounds |\n|---|---|---|---|---|---|\n")
	for _, flows := range workerFlows(t) {
		var workers, processes, ratio, onCore []float64
		var all []string
		for range rounds {
			w, wc := twoWorkers(t, flows, cores)
			p, pc := twoProcesses(t, flows, cores)
			workers, processes = append(workers, w), append(processes, p)
			ratio, onCore = append(ratio, w/p), append(onCore, wc/pc)
			all = append(all, fmt.Sprintf("%.2f/%.2f", w, p))
		}
		fmt.Printf("| %d | %.2f | %.2f | %.2f | %.2f | %s |\n", flows, median(workers), median(processes), median(ratio), median(onCore), strings.Join(all, " "))
	}
}

func workerFlows(t *testing.T) (list []int) {
	env := os.Getenv("SFC_FLOWS")
	if env == "" {
		env = "1000 100000"
	}
	for _, s := range strings.Fields(env) {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 {
			t.Fatalf("SFC_FLOWS=%q: want numbers of flows", env)
		}
		list = append(list, n)
	}
	return list
}

// What each worker does: it must last long beside the time by which one starts
// later than another.
const (
	workerPackets = 8_000_000 // each way
	workerWarm    = 1_000_000
)

var workerTraffic = traffic{proto: packet.ProtoUDP, sizes: []int{64}}

// rates are Mpps: of all workers together, and what they would be if every
// worker had its core all the time.
func rates(floods []*flood) (mpps, onCore float64) {
	for _, f := range floods {
		ns, core := f.perPacket()
		mpps += 1000 / ns
		onCore += 1000 / core
	}
	return mpps, onCore
}

// measureWorkers loads every worker of a rig with as many packets.
func measureWorkers(tb testing.TB, r *rig, in, out []way) (mpps, onCore float64) {
	runtime.GC() // not while they work
	for _, n := range []int{workerWarm, workerPackets} {
		floods := make([]*flood, len(in))
		for i := range floods {
			floods[i] = newFlood(n, in[i], out[i])
		}
		r.run(tb, floods)
		mpps, onCore = rates(floods)
	}
	return mpps, onCore
}

func twoWorkers(t *testing.T, flows int, cores []int) (mpps, onCore float64) {
	r := openStateful(t, "stateful", workerTraffic, 2*flows, cores...)
	defer r.close(t)
	in, out := r.steady(t, workerTraffic)
	return measureWorkers(t, r, in, out)
}

// envChild makes the test binary one of two processes: the core of its worker
// and the number of flows.
const envChild = "SFC_BENCH_CHILD"

// twoProcesses starts two of this binary, has them begin at the same time, and
// adds up what they say.
func twoProcesses(t *testing.T, flows int, cores []int) (mpps, onCore float64) {
	t.Helper()
	type process struct {
		cmd *exec.Cmd
		out *bufio.Scanner
		in  *os.File
	}
	var list []process
	defer func() {
		for _, p := range list {
			p.in.Close() // who waits to begin ends
			if err := p.cmd.Wait(); err != nil {
				t.Errorf("process: %v", err)
			}
		}
	}()
	for _, core := range cores {
		begin, in, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(os.Args[0], "-test.run", "^TestWorkerProcess$", "-test.v")
		cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d %d", envChild, core, flows))
		cmd.Stdin, cmd.Stderr = begin, os.Stderr
		out, err := cmd.StdoutPipe()
		if err == nil {
			err = cmd.Start()
		}
		begin.Close()
		if err != nil {
			in.Close()
			t.Fatal(err)
		}
		time.AfterFunc(5*time.Minute, func() { _ = cmd.Process.Kill() }) // an error: it has ended
		list = append(list, process{cmd, bufio.NewScanner(out), in})
	}
	answer := func(p process, word string) []string {
		for p.out.Scan() {
			if f := strings.Fields(p.out.Text()); len(f) > 0 && f[0] == word {
				return f[1:]
			}
		}
		t.Fatalf("process ended without saying %q", word)
		return nil
	}
	for _, p := range list {
		answer(p, "ready")
	}
	for _, p := range list {
		if _, err := p.in.Write([]byte("\n")); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range list {
		var m, c float64
		if _, err := fmt.Sscan(strings.Join(answer(p, "rate"), " "), &m, &c); err != nil {
			t.Fatal(err)
		}
		mpps, onCore = mpps+m, onCore+c
	}
	return mpps, onCore
}

// TestWorkerProcess is one of the two processes of TestTwoWorkers.
func TestWorkerProcess(t *testing.T) {
	var core, flows int
	if _, err := fmt.Sscan(os.Getenv(envChild), &core, &flows); err != nil {
		t.Skip("TestTwoWorkers runs it in a process of its own")
	}
	r := openStateful(t, "stateful", workerTraffic, flows, core)
	defer r.close(t)
	in, out := r.steady(t, workerTraffic)
	fmt.Println("ready")
	if n, _ := os.Stdin.Read(make([]byte, 1)); n == 0 {
		return // the other one failed
	}
	mpps, onCore := measureWorkers(t, r, in, out)
	fmt.Println("rate", mpps, onCore)
}
