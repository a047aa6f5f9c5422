package xsk

import (
	"errors"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sfc/dataplane/packet"
	"sfc/testbed/netns"
)

func TestOpenRefusals(t *testing.T) {
	w := newWire(t)
	umem, other := newUMEM(t, 512), newUMEM(t, 512)
	in := open(t, umem, w.in, Options{})
	fast := Options{BindWait: -1}
	tests := []struct {
		name  string
		umem  *testUMEM
		link  *netns.Link
		queue uint32
		opts  Options
		is    error
		want  string
	}{
		{"queue taken, same worker", umem, w.in, 0, fast, ErrQueueTaken, "same worker"},
		{"queue taken, other UMEM", other, w.in, 0, fast, ErrQueueTaken, "close the other program"},
		{"no such queue", other, w.out, 7, fast, ErrNoQueue, "queue 7"},
		{"no such queue, shared UMEM", umem, w.out, 7, fast, ErrNoQueue, "queue 7"},
		{"no such interface", other, &netns.Link{NS: w.in.NS, Index: 99_999}, 0, fast, ErrNoInterface, "ifindex 99999"},
		{"interface of another namespace", other, &netns.Link{NS: w.in.NS, Index: w.src.Index}, 0, fast, ErrNoInterface, "namespace"},
		{"zero copy on veth", other, w.out, 0, Options{Mode: ZeroCopy}, ErrNoZeroCopy, "mode Auto"},
		{"zero copy, shared UMEM", umem, w.out, 0, Options{Mode: ZeroCopy}, ErrNoZeroCopy, "copy mode"},
		{"ring size", other, w.out, 0, Options{RingSize: 1000}, nil, "ring size 1000"},
		{"ring too small", other, w.out, 0, Options{RingSize: 32}, nil, "ring size 32"},
		{"ring too large", other, w.out, 0, Options{RingSize: 65536}, nil, "ring size 65536"},
		{"fill target", other, w.out, 0, Options{RingSize: 64, FillRing: 64, FillTarget: 65}, nil, "fill target 65"},
		{"reserve", other, w.out, 0, Options{FillTarget: 64, Reserve: 65}, nil, "reserve 65"},
		{"mode", other, w.out, 0, Options{Mode: 9}, nil, "mode 9"},
		{"budget too small", other, w.out, 0, Options{TxBudget: 31}, nil, "transmit budget 31"},
		{"budget above ring", other, w.out, 0, Options{RingSize: 64, TxBudget: 65}, nil, "transmit budget 65"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			xsk, err := tryOpen(tt.umem, tt.link, tt.queue, tt.opts)
			if err == nil {
				_ = xsk.Close()
				t.Fatal("opened")
			}
			if tt.is != nil && !errors.Is(err, tt.is) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("err = %v, want %v and %q", err, tt.is, tt.want)
			}
			account(t, umem, 0)
			account(t, other, 0)
		})
	}
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	// The queue is free again, though perhaps not at once.
	open(t, other, w.in, Options{})
}

func TestNewUMEMRefusals(t *testing.T) {
	mem := newUMEM(t, 4).Bytes()
	tests := []struct {
		name string
		mem  []byte
		pool int // bytes of the depot
		want string
	}{
		{"empty", nil, 0, "0 bytes"},
		{"not whole chunks", mem[:3000], 2048, "3000 bytes"},
		{"not on a page", mem[2048:4096], 2048, "page"},
		{"depot too large", mem[:4096], 8192, "depot has 4"},
	}
	for _, tt := range tests {
		if _, err := NewUMEM(tt.mem, packet.NewDepot(tt.pool)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: err = %v, want one with %q", tt.name, err, tt.want)
		}
	}
}

// withoutCap runs fn on a thread that lacks one capability.
func withoutCap(t *testing.T, c int, fn func() error) error {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var data [2]unix.CapUserData
		err := unix.Capget(&hdr, &data[0])
		if err == nil {
			data[c/32].Effective &^= 1 << (c % 32)
			err = unix.Capset(&hdr, &data[0])
		}
		if err == nil {
			err = fn()
		}
		done <- err
	}()
	return <-done
}

func TestMissingPrivilegeIsNamed(t *testing.T) {
	w := newWire(t)
	umem := newUMEM(t, 512)
	openHere := func() error {
		xsk, err := Open(umem.UMEM, umem.pool, w.in.Index, 0, Options{})
		if err == nil {
			return xsk.Close()
		}
		return err
	}
	err := withoutCap(t, unix.CAP_NET_RAW, openHere)
	if !errors.Is(err, unix.EPERM) || !strings.Contains(err.Error(), "CAP_NET_RAW") {
		t.Errorf("without CAP_NET_RAW: %v", err)
	}
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &old); err != nil {
		t.Fatal(err)
	}
	low := old
	low.Cur = 64 << 10
	if err := unix.Setrlimit(unix.RLIMIT_MEMLOCK, &low); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Setrlimit(unix.RLIMIT_MEMLOCK, &old); err != nil {
			t.Error(err)
		}
	}()
	err = withoutCap(t, unix.CAP_IPC_LOCK, openHere)
	if err == nil || !strings.Contains(err.Error(), "CAP_IPC_LOCK") || !strings.Contains(err.Error(), "limit 64 KiB") {
		t.Errorf("without CAP_IPC_LOCK: %v", err)
	}
	account(t, umem, 0)
}
