package bpf

import (
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"sfc/dataplane/classify"
	"sfc/dataplane/packet"
	"sfc/dataplane/steer"
	"sfc/dataplane/xsk"
)

// Two workers have sockets on one queue: every frame arrives at the owner of its
// flow, and while owners change under traffic, what each worker receives is what
// the changes of owner said it was sent.
func TestDeliverToOwners(t *testing.T) {
	const workers, rounds, flows = 2, 60, 32
	w := newWires(t)
	mem, err := unix.Mmap(-1, 0, 2048*packet.ChunkSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(mem)
	depot := packet.NewDepot(len(mem))
	umem, err := xsk.NewUMEM(mem, depot)
	if err != nil {
		t.Fatal(err)
	}
	defer umem.Close()
	var s *Steering
	var socks [workers]*xsk.Socket
	var pools [workers]*packet.Pool
	in(t, w.near, func() error {
		s = steering(t, Config{Table: compile(t, fixtureRules), Ports: []PortConfig{{Ifindex: w.nearA.Index, Unmatched: classify.Drop}}, Workers: workers})
		if _, err := s.Attach(0, Native); err != nil {
			return err
		}
		for i := range socks {
			pools[i] = depot.Pool()
			sock, err := xsk.Open(umem, pools[i], w.nearA.Index, 0, xsk.Options{})
			if err != nil {
				return err
			}
			t.Cleanup(func() { sock.Close() })
			if err := s.SetSocket(0, 0, i, sock.PollFD()); err != nil {
				return err
			}
			socks[i] = sock
		}
		return nil
	})
	o, err := steer.NewOwners(s.OwnerMemory(), 1, workers)
	if err != nil {
		t.Fatal(err)
	}
	var buckets [flows]uint16
	for i := range buckets {
		_, buckets[i] = flowOf(t, s, flowFrame(i))
	}

	// receive takes what has come, and calls see with each frame.
	var rx [64]packet.Frame
	receive := func(see func(worker int, m *packet.Meta)) (n int) {
		for i, sock := range socks {
			got := sock.Receive(rx[:])
			for _, f := range rx[:got] {
				see(i, packet.MetaAt(mem, f.Pos()))
				pools[i].Put(f.Chunk)
			}
			sock.Refill()
			n += got
		}
		return n
	}
	// With owners at rest, each frame goes to its own.
	for round := range 8 {
		for i, b := range buckets {
			if (i+round)%3 == 0 {
				o.Flip(0, b, (i+round/2)%workers)
			}
		}
		in(t, w.far, func() error { return sendFlows(w.farA.Index, flows) })
		count, next := 0, uint32(0)
		waitFor(t, "a round", func() bool {
			count += receive(func(worker int, m *packet.Meta) {
				if m.Bucket != steer.Bucket(m.Hash) || o.Owner(0, m.Bucket) != worker {
					t.Errorf("worker %d received a frame of bucket %d, which is worker %d's", worker, m.Bucket, o.Owner(0, m.Bucket))
				}
				next = max(next, m.Seq+1)
			})
			return count >= flows
		})
		if int(next) != (round+1)*flows || count != flows {
			t.Fatalf("round %d: %d frames, numbers up to %d", round, count, next)
		}
	}
	// And while they change.
	for _, b := range buckets {
		o.Flip(0, b, o.Owner(0, b))
	}
	var received, told [workers]uint64
	flips := 0
	flip := func(b uint16) {
		from := o.Owner(0, b)
		told[from] += o.Flip(0, b, 1-from)
		flips++
	}
	for range rounds {
		sent := make(chan error, 1)
		go func() { sent <- w.far.Do(func() error { return sendFlows(w.farA.Index, flows) }) }()
		count := 0
		waitFor(t, "a round", func() bool {
			for _, b := range buckets {
				flip(b)
			}
			runtime.Gosched()
			count += receive(func(worker int, _ *packet.Meta) { received[worker]++ })
			return count >= flows
		})
		if err := <-sent; err != nil {
			t.Fatal(err)
		}
	}
	for _, b := range buckets {
		flip(b)
	}
	t.Logf("%d flips, workers received %v", flips, received)
	if received != told || received[0]+received[1] != rounds*flows || received[0] == 0 || received[1] == 0 {
		t.Errorf("workers received %v, flips say %v, %d were sent", received, told, rounds*flows)
	}
}
