package bpf

import (
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/gopacket/pcapgo"

	"sfc/dataplane/packet"
	"sfc/testbed/gate"
)

// maxRun is the longest frame that the kernel's test run takes here: it fills
// one page and the fragments of an skb with it.
const maxRun = 60000

// frames reads a capture and calls fn with each frame.
func frames(tb testing.TB, path string, fn func(frame []byte)) {
	tb.Helper()
	f, err := os.Open(path)
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	var read func() ([]byte, error)
	if filepath.Ext(path) == ".pcapng" {
		r, err := pcapgo.NewNgReader(f, pcapgo.DefaultNgReaderOptions)
		if err != nil {
			tb.Fatal(err)
		}
		read = func() ([]byte, error) { b, _, err := r.ReadPacketData(); return b, err }
	} else {
		r, err := pcapgo.NewReader(f)
		if err != nil {
			tb.Fatal(err)
		}
		read = func() ([]byte, error) { b, _, err := r.ReadPacketData(); return b, err }
	}
	for {
		b, err := read()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			tb.Fatalf("%s: %v", path, err)
		}
		fn(b)
	}
}

// Kernel and Go agree on every packet of real captures.
func TestCapturesAgree(t *testing.T) {
	needKernel(t)
	paths := gate.Pcaps(t)
	table := compile(t, fixtureRules)
	s := onePort(t, table)
	for _, path := range paths {
		t.Run(filepath.Base(path), func(t *testing.T) {
			outcomes := map[string]int{}
			frames(t, path, func(frame []byte) {
				if len(frame) >= packet.EtherLen && len(frame) <= maxRun {
					name, _ := agree(t, s, table, frame)
					outcomes[name]++
				}
			})
			t.Log(outcomes)
			if len(outcomes) == 0 {
				t.Error("no packet")
			}
		})
	}
}

// seed returns TEST_SEED, or a new one, and logs it.
func seed(tb testing.TB) *rand.Rand {
	tb.Helper()
	n := uint64(time.Now().UnixNano())
	if s := os.Getenv("TEST_SEED"); s != "" {
		var err error
		if n, err = strconv.ParseUint(s, 10, 64); err != nil {
			tb.Fatalf("TEST_SEED: %v", err)
		}
	}
	tb.Logf("TEST_SEED=%d", n)
	return rand.New(rand.NewPCG(n, 0))
}

// mutate changes a few bytes of the headers, or the length of the frame.
func mutate(rng *rand.Rand, frame []byte) []byte {
	frame = slices.Clone(frame)
	// Values that mean something somewhere: lengths, protocols, EtherTypes.
	special := []byte{0, 1, 4, 6, 8, 17, 43, 44, 51, 58, 60, 0x45, 0x60, 0x81, 0x86, 0x88, 0xa8, 0xdd, 0xff}
	for range 1 + rng.IntN(4) {
		i := 12 + rng.IntN(min(len(frame), 90)-12)
		if rng.IntN(2) == 0 {
			frame[i] = special[rng.IntN(len(special))]
		} else {
			frame[i] ^= 1 << rng.IntN(8)
		}
	}
	switch rng.IntN(4) {
	case 0:
		frame = frame[:14+rng.IntN(len(frame)-13)]
	case 1:
		frame = append(frame, make([]byte, rng.IntN(64))...)
	}
	return frame
}

// Kernel and Go agree on frames that nobody would send.
func TestMutationsAgree(t *testing.T) {
	needKernel(t)
	rng := seed(t)
	table := compile(t, fixtureRules)
	s := onePort(t, table)
	var from [][]byte
	for _, f := range fixtures {
		if len(f.in) < 200 && len(f.in) > 14 {
			from = append(from, f.in)
		}
	}
	outcomes := map[string]int{}
	for range 20000 {
		name, _ := agree(t, s, table, mutate(rng, from[rng.IntN(len(from))]))
		outcomes[name]++
	}
	t.Log(outcomes)
	for _, name := range []string{claimed, notIP, nd, unmatched, malformed, extHeaders} {
		if outcomes[name] == 0 {
			t.Errorf("no mutation led to %q", name)
		}
	}
}
