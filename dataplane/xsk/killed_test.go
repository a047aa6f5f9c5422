package xsk

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"sfc/dataplane/packet"
	"sfc/testbed/gate"
	"sfc/testbed/netns"
	"sfc/testbed/trafgen"
)

// childEnv tells the test's program that it is the forwarder: the grants, as JSON.
const childEnv = "XSK_TEST_GRANTS"

func TestMain(m *testing.M) {
	if grants := os.Getenv(childEnv); grants != "" {
		fmt.Fprintln(os.Stderr, forward(grants))
		os.Exit(1)
	}
	os.Exit(gate.Main(m))
}

// adopted is what the forwarder says when it begins.
type adopted struct {
	Recovery
	Took time.Duration
}

// Descriptors of the forwarder: standard ones, then these, then the sockets.
const regionFD, recordFD, firstSocketFD = 3, 4, 5

// forward adopts the sockets as a user without privileges, says so, and forwards
// until it is killed.
func forward(grants string) error {
	var list []Grant
	if err := json.Unmarshal([]byte(grants), &list); err != nil {
		return err
	}
	if err := errors.Join(syscall.Setgroups(nil), syscall.Setgid(65534), syscall.Setuid(65534)); err != nil {
		return err
	}
	chunks := list[0].Chunks
	mem, err := unix.Mmap(regionFD, 0, chunks*packet.ChunkSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	record, err := unix.Mmap(recordFD, 0, RecordSize(chunks), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	depot := packet.NewDepot(len(mem))
	pool := depot.Pool()
	var granted []Granted
	for i, g := range list {
		granted = append(granted, Granted{g, firstSocketFD + i, pool})
	}
	begin := time.Now()
	u, sockets, did, err := AdoptUMEM(mem, record, depot, granted)
	if err != nil {
		return err
	}
	took := time.Since(begin)
	if err := u.Verify(0); err != nil {
		return err
	}
	out, err := json.Marshal(adopted{did, took})
	if err != nil {
		return err
	}
	fmt.Println(string(out))
	f := &forwarder{umem: &testUMEM{UMEM: u, pool: pool}, in: sockets[0], out: sockets[1], done: make(chan struct{})}
	f.run() // for ever
	return errors.New("stopped")
}

// A process without privileges forwards over veth and is killed again and again
// under traffic. The next one goes on with the same sockets, and no chunk is lost.
func TestKilledUnderTraffic(t *testing.T) {
	gate.Root(t)
	gate.Kernel(t, "6.4", "mapping the rings of a bound socket")
	killedUnderTraffic(t, 25, false)
}

// Where nobody can map what another process has bound, each one binds new
// sockets. The first ones show what the kernel is like.
func TestKilledUnderTrafficUnbound(t *testing.T) {
	gate.Root(t)
	killedUnderTraffic(t, 10, true)
}

func killedUnderTraffic(t *testing.T, kills int, unbound bool) {
	const chunks = 4096
	w := newWire(t)
	memfd := func(name string, size int) (*os.File, []byte) {
		fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
		if err == nil {
			err = unix.Ftruncate(fd, int64(size))
		}
		if err != nil {
			t.Fatal(err)
		}
		mem, err := unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		if err != nil {
			t.Fatal(err)
		}
		f := os.NewFile(uintptr(fd), name)
		t.Cleanup(func() {
			if err := errors.Join(unix.Munmap(mem), f.Close()); err != nil {
				t.Error(err)
			}
		})
		return f, mem
	}
	region, mem := memfd("umem", chunks*packet.ChunkSize)
	recordFile, record := memfd("record", RecordSize(chunks))
	var handles []*Handle
	var files []*os.File
	var grants []Grant
	create := func() {
		handles, files, grants = nil, []*os.File{region, recordFile}, nil
		for _, l := range []*netns.Link{w.in, w.out} {
			if err := l.NS.Do(func() error {
				h, err := Create(mem, handles, l.Index, 0, Options{Unbound: unbound})
				if err == nil {
					handles, files, grants = append(handles, h), append(files, h.File), append(grants, h.Grant)
				}
				return err
			}); err != nil {
				t.Fatal(err)
			}
		}
	}
	create()
	sockets := steer(t, w.in, link.XDPDriverMode, &Socket{fd: int(handles[0].File.Fd()), queue: &queue{}})
	renew := func() {
		for _, h := range handles {
			if err := h.Close(); err != nil {
				t.Error(err)
			}
		}
		clear(record)
		create()
		if err := sockets.Put(uint32(0), uint32(handles[0].File.Fd())); err != nil {
			t.Fatal(err)
		}
	}

	// Traffic for as long as the test runs: numbered frames, checked on arrival.
	var stop atomic.Bool
	var arrived, bad atomic.Int64
	ended := make(chan error, 2)
	defer func() {
		stop.Store(true)
		for range 2 {
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
		if bad.Load() > 0 {
			t.Errorf("%d frames arrived changed", bad.Load())
		}
	}()
	s, err := trafgen.OpenSender(w.src)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	r, err := trafgen.OpenReceiver(w.dst)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	go func() {
		var mem [16][packet.MaxFrame]byte
		var frames [16][]byte
		for i := 0; !stop.Load(); i += len(frames) {
			for k := range frames {
				frames[k] = numbered(mem[k][:], i+k)
			}
			if _, err := s.Send(frames[:]); err != nil {
				ended <- err
				return
			}
			time.Sleep(100 * time.Microsecond)
		}
		ended <- nil
	}()
	go func() {
		var want [packet.MaxFrame]byte
		for !stop.Load() {
			in, err := r.Receive()
			if err != nil {
				ended <- err
				return
			}
			for _, f := range in {
				if len(f) < 18 || string(f) != string(numbered(want[:], int(binary.BigEndian.Uint32(f[14:])))) {
					bad.Add(1)
				}
				arrived.Add(1)
			}
			if len(in) == 0 {
				_, _ = r.Wait(10 * time.Millisecond)
			}
		}
		ended <- nil
	}()

	rng := rand.New(rand.NewPCG(3, 3))
	var worst, sum time.Duration
	for i := range kills {
		if unbound && i > 0 {
			renew()
		}
		env, err := json.Marshal(grants)
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(os.Args[0])
		cmd.Env, cmd.ExtraFiles, cmd.Stderr = append(os.Environ(), childEnv+"="+string(env)), files, os.Stderr
		stdout, err := cmd.StdoutPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		line, err := bufio.NewReader(stdout).ReadBytes('\n')
		var a adopted
		if err == nil {
			err = json.Unmarshal(line, &a)
		}
		before := arrived.Load()
		for end := time.Now().Add(2 * time.Second); err == nil && arrived.Load() < before+200; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				err = errors.New("nothing is forwarded")
			}
		}
		time.Sleep(time.Duration(rng.IntN(20_000)) * time.Microsecond)
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // killed
		if err != nil {
			t.Fatalf("forwarder %d: %v %q", i, err, line)
		}
		if a.Kept != 0 || a.Free+a.Rx+a.Tx != chunks {
			t.Errorf("forwarder %d: %+v", i, a)
		}
		worst, sum = max(worst, a.Took), sum+a.Took
	}
	t.Logf("%d kills: adopted in %v on average, %v at worst; %d frames arrived", kills, sum/time.Duration(kills), worst, arrived.Load())

	// The last one to adopt closes everything.
	if unbound {
		renew()
	}
	depot := packet.NewDepot(len(mem))
	pool := depot.Pool()
	u, last, did, err := AdoptUMEM(mem, record, depot, []Granted{
		{handles[0].Grant, int(handles[0].File.Fd()), pool}, {handles[1].Grant, int(handles[1].File.Fd()), pool}})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", did)
	for i, h := range handles {
		if err := errors.Join(h.Close(), last[i].Close()); err != nil {
			t.Error(err)
		}
	}
	depot.Retire(pool)
	if depot.Free() != chunks {
		t.Errorf("%d of %d chunks free at the end", depot.Free(), chunks)
	}
	if err := u.Close(); err != nil {
		t.Error(err)
	}
}
