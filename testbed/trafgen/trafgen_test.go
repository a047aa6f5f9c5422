package trafgen

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sfc/testbed/gate"
	"sfc/testbed/netns"
)

func TestMain(m *testing.M) { os.Exit(gate.Main(m)) }

// pair makes two namespaces joined by a veth whose frames may be 1,792 bytes.
func pair(t *testing.T) (a, b *netns.Link) {
	t.Helper()
	gate.Caps(t, unix.CAP_SYS_ADMIN, unix.CAP_NET_ADMIN, unix.CAP_NET_RAW)
	gate.Leaks(t)
	return join(t, newNS(t), "left", newNS(t), "right")
}

func newNS(t *testing.T) *netns.NS {
	t.Helper()
	ns, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := ns.Close(); err != nil {
			t.Error(err)
		}
	})
	return ns
}

func join(t *testing.T, a *netns.NS, nameA string, b *netns.NS, nameB string) (la, lb *netns.Link) {
	t.Helper()
	la, lb, err := netns.Veth(a, nameA, b, nameB, netns.VethOptions{MTU: 1778})
	if err != nil {
		t.Fatal(err)
	}
	return la, lb
}

func sender(t *testing.T, l *netns.Link) *Sender {
	t.Helper()
	s, err := OpenSender(l)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func receiver(t *testing.T, l *netns.Link) *Receiver {
	t.Helper()
	r, err := OpenReceiver(l)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// randomFrame fills f: any addresses, an EtherType nobody handles, noise.
func randomFrame(rng *rand.ChaCha8, f []byte) {
	_, _ = rng.Read(f)
	f[0] &^= 1                                 // unicast
	binary.BigEndian.PutUint16(f[12:], 0x88b5) // local experimental
}

// exchange sends frames with at most window of them on their way and returns
// copies of what arrives, until all did or nothing comes for a second.
func exchange(t *testing.T, s *Sender, r *Receiver, frames [][]byte, window int) [][]byte {
	t.Helper()
	var got [][]byte
	for sent := 0; len(got) < len(frames); {
		room := min(window-(sent-len(got)), len(frames)-sent)
		n, err := s.Send(frames[sent : sent+room])
		if err != nil {
			t.Fatal(err)
		}
		sent += n
		in, err := r.Receive()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range in {
			got = append(got, bytes.Clone(f))
		}
		if len(in) == 0 {
			if arrived, err := r.Wait(time.Second); err != nil {
				t.Fatal(err)
			} else if !arrived {
				break
			}
		}
	}
	return got
}

// collect returns copies of the next n frames to arrive.
func collect(t *testing.T, r *Receiver, n int) [][]byte {
	t.Helper()
	var got [][]byte
	for len(got) < n {
		if arrived, err := r.Wait(time.Second); err != nil || !arrived {
			t.Fatalf("%d of %d frames arrived (%v)", len(got), n, err)
		}
		in, err := r.Receive()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range in {
			got = append(got, bytes.Clone(f))
		}
	}
	return got
}

// same reports the first difference between what was sent and what arrived.
func same(t *testing.T, sent, got [][]byte) {
	t.Helper()
	for i := range min(len(sent), len(got)) {
		if !bytes.Equal(sent[i], got[i]) {
			t.Fatalf("frame %d:\nsent %x\ngot  %x", i, sent[i], got[i])
		}
	}
	if len(sent) != len(got) {
		t.Fatalf("sent %d frames, got %d", len(sent), len(got))
	}
}

func TestFramesArriveUnchanged(t *testing.T) {
	la, lb := pair(t)
	s, r := sender(t, la), receiver(t, lb)
	rng := rand.NewChaCha8([32]byte{1})
	const total, longest, shortest = 50_000, 1792, 14
	frames := make([][]byte, total)
	var sentBytes int
	for i := range frames {
		n := shortest + i%(longest-shortest+1)
		if i%2 == 1 {
			n = shortest + int(rng.Uint64()%(longest-shortest+1))
		}
		frames[i] = make([]byte, n)
		randomFrame(rng, frames[i])
		sentBytes += n
	}
	start := time.Now()
	got := exchange(t, s, r, frames, 128)
	took := time.Since(start)
	same(t, frames, got)
	if d, err := r.Dropped(); err != nil || d != 0 {
		t.Errorf("Dropped = %d, %v", d, err)
	}
	t.Logf("%d frames, %d MB, in %v: %.0f kpps", total, sentBytes>>20, took, total/took.Seconds()/1e3)
}

func TestTagsArriveUnchanged(t *testing.T) {
	la, lb := pair(t)
	s, r := sender(t, la), receiver(t, lb)
	tests := []struct {
		name string
		tags []byte // what follows the addresses, in front of the EtherType
	}{
		{"none", nil},
		{"802.1Q", []byte{0x81, 0, 0x60, 0x64}},
		{"802.1Q drop eligible", []byte{0x81, 0, 0xff, 0xff}},
		{"802.1Q priority only", []byte{0x81, 0, 0xe0, 0}},
		{"802.1Q all zero", []byte{0x81, 0, 0, 0}},
		{"802.1ad", []byte{0x88, 0xa8, 0, 7}},
		{"802.1ad and 802.1Q", []byte{0x88, 0xa8, 0x20, 7, 0x81, 0, 0, 8}},
		{"802.1Q twice", []byte{0x81, 0, 0, 7, 0x81, 0, 0, 8}},
		{"802.1ad twice", []byte{0x88, 0xa8, 0, 7, 0x88, 0xa8, 0, 8}},
		{"priority in front of 802.1ad", []byte{0x81, 0, 0, 0, 0x88, 0xa8, 0, 8}},
		{"three tags", []byte{0x88, 0xa8, 0, 7, 0x81, 0, 0, 8, 0x81, 0, 0, 9}},
		{"0x9100, no VLAN to the kernel", []byte{0x91, 0, 0, 7}},
	}
	rng := rand.NewChaCha8([32]byte{2})
	for _, tt := range tests {
		for _, n := range []int{max(MinTagged, 14+len(tt.tags)), 60, 1000, 1792} {
			f := make([]byte, n)
			randomFrame(rng, f)
			copy(f[12:], tt.tags)
			binary.BigEndian.PutUint16(f[12+len(tt.tags):], 0x88b5)
			got := exchange(t, s, r, [][]byte{f}, 1)
			if len(got) != 1 || !bytes.Equal(got[0], f) {
				t.Errorf("%s, %d bytes:\nsent %x\ngot  %x", tt.name, n, f, got)
			}
		}
	}
}

// TestShortTaggedFrameIsDroppedByKernel shows why MinTagged exists.
func TestShortTaggedFrameIsDroppedByKernel(t *testing.T) {
	la, lb := pair(t)
	s, r := sender(t, la), receiver(t, lb)
	f := make([]byte, MinTagged-1)
	randomFrame(rand.NewChaCha8([32]byte{8}), f)
	copy(f[12:], []byte{0x81, 0, 0, 5, 0x88, 0xb5})
	if n, err := s.Send([][]byte{f}); n != 1 || err != nil {
		t.Fatalf("Send = %d, %v", n, err)
	}
	if arrived, err := r.Wait(50 * time.Millisecond); err != nil || arrived {
		t.Errorf("a tagged frame of %d bytes arrived (%v): MinTagged is too high for this kernel", len(f), err)
	}
}

func TestTagOnFrameOfFullMTU(t *testing.T) {
	la, lb := pair(t)
	s, r := sender(t, la), receiver(t, lb)
	rng := rand.NewChaCha8([32]byte{3})
	f := make([]byte, 1778+14+4)
	randomFrame(rng, f)
	copy(f[12:], []byte{0x81, 0, 0, 5, 0x88, 0xb5})
	same(t, [][]byte{f}, exchange(t, s, r, [][]byte{f}, 1))
}

func TestRefusedFrameIsNamed(t *testing.T) {
	la, lb := pair(t)
	s, r := sender(t, la), receiver(t, lb)
	rng := rand.NewChaCha8([32]byte{4})
	tests := []struct {
		name string
		bad  int // length of the bad frame
		err  error
		want string
	}{
		{"too long", 1793, unix.EMSGSIZE, "MTU 1778"},
		{"far too long", 37_506, unix.EMSGSIZE, "37506"},
		{"too short", 13, unix.EINVAL, "13 bytes"},
		{"empty", 0, unix.EINVAL, "0 bytes"},
	}
	for _, tt := range tests {
		for _, at := range []int{0, 5, 63, 64, 99} {
			frames := make([][]byte, 100)
			for i := range frames {
				frames[i] = make([]byte, 60)
				randomFrame(rng, frames[i])
			}
			frames[at] = make([]byte, tt.bad)
			n, err := s.Send(frames)
			var fe *FrameError
			if !errors.As(err, &fe) || !errors.Is(err, tt.err) || fe.Index != at || fe.Len != tt.bad || n != at {
				t.Fatalf("%s at %d: n = %d, err = %v", tt.name, at, n, err)
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%s: %q does not say %s", tt.name, err, tt.want)
			}
			if m, err := s.Send(frames[at+1:]); err != nil || m != 99-at {
				t.Fatalf("rest behind %d: n = %d, err = %v", at, m, err)
			}
			good := append(append([][]byte{}, frames[:at]...), frames[at+1:]...)
			same(t, good, collect(t, r, len(good)))
		}
	}
}

func TestReceiverTakesOnlyWhatArrives(t *testing.T) {
	la, lb := pair(t)
	s, own, far := sender(t, la), receiver(t, la), receiver(t, lb)
	rng := rand.NewChaCha8([32]byte{5})
	frames := make([][]byte, 4)
	for i, dst := range [][]byte{lb.MAC, {2, 9, 9, 9, 9, 9}, {255, 255, 255, 255, 255, 255}, {1, 0, 0x5e, 0, 0, 1}} {
		frames[i] = make([]byte, 60)
		randomFrame(rng, frames[i])
		copy(frames[i], dst)
	}
	same(t, frames, exchange(t, s, far, frames, len(frames)))
	if arrived, err := own.Wait(50 * time.Millisecond); err != nil || arrived {
		t.Errorf("the sending end's receiver got a frame (%v)", err)
	}
}

func TestOverflowIsCounted(t *testing.T) {
	la, lb := pair(t)
	s, r := sender(t, la), receiver(t, lb)
	if err := unix.SetsockoptInt(r.fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 8<<10); err != nil {
		t.Fatal(err)
	}
	f := make([]byte, 1000)
	randomFrame(rand.NewChaCha8([32]byte{6}), f)
	const total = 500
	for range total {
		if n, err := s.Send([][]byte{f}); n != 1 || err != nil {
			t.Fatalf("Send = %d, %v", n, err)
		}
	}
	var got uint64
	for {
		in, err := r.Receive()
		if err != nil {
			t.Fatal(err)
		}
		if len(in) == 0 {
			break
		}
		got += uint64(len(in))
	}
	for range 2 { // reading does not forget
		if d, err := r.Dropped(); err != nil || d == 0 || d+got != total {
			t.Errorf("sent %d, got %d, Dropped = %d, %v", total, got, d, err)
		}
	}
}

func TestNoAllocationPerFrame(t *testing.T) {
	la, lb := pair(t)
	s, r := sender(t, la), receiver(t, lb)
	frames := make([][]byte, burst)
	for i := range frames {
		frames[i] = make([]byte, 100)
		randomFrame(rand.NewChaCha8([32]byte{7}), frames[i])
	}
	allocs := testing.AllocsPerRun(100, func() {
		if n, err := s.Send(frames); n != len(frames) || err != nil {
			t.Fatalf("Send = %d, %v", n, err)
		}
		for got := 0; got < len(frames); {
			in, err := r.Receive()
			if err != nil {
				t.Fatal(err)
			}
			got += len(in)
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations per burst", allocs)
	}
}

func TestOpenOnAbsentLinkFails(t *testing.T) {
	la, _ := pair(t)
	gone := *la
	gone.Name, gone.Index = "gone", 99_999
	if _, err := OpenSender(&gone); !errors.Is(err, unix.ENODEV) || !strings.Contains(err.Error(), "gone") {
		t.Errorf("OpenSender = %v", err)
	}
	if _, err := OpenReceiver(&gone); !errors.Is(err, unix.ENODEV) || !strings.Contains(err.Error(), "gone") {
		t.Errorf("OpenReceiver = %v", err)
	}
}
