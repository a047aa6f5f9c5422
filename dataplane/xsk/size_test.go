package xsk

import (
	"errors"
	"strings"
	"testing"

	"sfc/dataplane/packet"
)

func TestSizing(t *testing.T) {
	const functions = 96 << 20 // what functions can see of a region
	tests := []struct {
		name string
		s    Sizing
		ring uint32
		most int // chunks
		want string
	}{
		{"one worker, two ports", Sizing{Queues: 2, Workers: 1}, 2048, 7168, ""},
		{"two workers, two ports", Sizing{Queues: 2, Workers: 2, MaxBytes: functions}, 2048, 19456, ""},
		{"eight workers, two ports: smaller rings", Sizing{Queues: 2, Workers: 8, MaxBytes: functions}, 1024, 49152, ""},
		{"four workers, four queues each", Sizing{Queues: 8, Workers: 4, MaxBytes: functions}, 512, 49152, ""},
		{"ring wanted", Sizing{Queues: 2, Workers: 2, RingSize: 256}, 256, 4096, ""},
		{"much held", Sizing{Queues: 2, Workers: 2, Held: 4096}, 2048, 27648, ""},
		{"too many", Sizing{Queues: 64, Workers: 64, MaxBytes: functions}, 0, 0, "at most 96 MiB"},
		{"no queue", Sizing{Workers: 1}, 0, 0, "0 queues"},
		{"no worker", Sizing{Queues: 1}, 0, 0, "0 workers"},
		{"ring size", Sizing{Queues: 1, Workers: 1, RingSize: 1000}, 0, 0, "ring size 1000"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			chunks, opts, err := tt.s.Size()
			if tt.want != "" {
				if err == nil || !strings.Contains(err.Error(), tt.want) {
					t.Fatalf("Size = %d, %v, want an error with %q", chunks, err, tt.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			target := tt.ring/2 + uint32(tt.s.Workers-1)*tt.ring
			if opts.RingSize != tt.ring || opts.FillTarget != target || opts.FillRing < target || chunks > tt.most || chunks%1024 != 0 {
				t.Errorf("%d chunks with %+v, want rings of %d and at most %d chunks, whole huge pages", chunks, opts, tt.ring, tt.most)
			}
			if tt.s.MaxBytes > 0 && chunks*packet.ChunkSize > tt.s.MaxBytes {
				t.Errorf("%d chunks are more than %d bytes", chunks, tt.s.MaxBytes)
			}
			if err := opts.withDefaults(chunks).validate(); err != nil {
				t.Errorf("options %+v: %v", opts, err)
			}
		})
	}
}

func TestVerifyNoticesLostChunks(t *testing.T) {
	umem := newUMEM(t, 256)
	xsk, k := play(t, umem, Options{RingSize: 64})
	xsk.Refill()
	k.receive(10, 60)
	account(t, umem, 0)
	f := take(t, umem, 1)
	if err := umem.Verify(0); !errors.Is(err, ErrChunks) {
		t.Errorf("one chunk is in hand, Verify(0) = %v", err)
	}
	account(t, umem, 1)
	umem.pool.Put(f[0].Chunk)
	umem.pool.Put(f[0].Chunk)
	if err := umem.Verify(0); !errors.Is(err, ErrChunks) || !errors.Is(err, packet.ErrTwice) {
		t.Errorf("a chunk was returned twice, Verify = %v", err)
	}
	umem.pool.Get()
	account(t, umem, 0)

	// A chunk that a socket holds is returned, another one is lost: the number
	// is right.
	lost := take(t, umem, 1)[0]
	waits := uint32(k.rx.descs[(k.rxProd-1)&63].Addr) &^ (packet.ChunkSize - 1)
	umem.pool.Put(waits)
	if err := umem.Verify(0); !errors.Is(err, ErrChunks) || !strings.Contains(err.Error(), "is free, and") {
		t.Errorf("a socket's chunk is free, Verify = %v", err)
	}
	umem.pool.Get()
	umem.pool.Put(lost.Chunk)
	account(t, umem, 0)
}

func TestUMEMIsClosedLast(t *testing.T) {
	umem := newUMEM(t, 256)
	xsk, _ := play(t, umem, Options{RingSize: 64})
	if err := umem.Close(); !errors.Is(err, ErrInUse) {
		t.Errorf("Close with an open socket = %v", err)
	}
	if err := errors.Join(xsk.Close(), umem.Close(), umem.Close()); err != nil {
		t.Error(err)
	}
	if err := umem.Verify(0); err == nil {
		t.Error("a closed UMEM can be verified")
	}
	if _, err := Open(umem.UMEM, umem.pool, 1, 0, Options{}); err == nil || !strings.Contains(err.Error(), "closed") {
		t.Errorf("Open on a closed UMEM: %v", err)
	}
	other := newUMEM(t, 256)
	if _, err := Open(other.UMEM, umem.pool, 1, 0, Options{}); err == nil || !strings.Contains(err.Error(), "pool") {
		t.Errorf("Open with a pool of another UMEM: %v", err)
	}
}
