package replay

import (
	"errors"
	"io"
	"math"
	"path/filepath"
	"testing"

	"sfc/testbed/capture"
)

func writeTimes(tb testing.TB, times ...int64) string {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "in.pcapng")
	w, err := capture.Create(path)
	if err != nil {
		tb.Fatal(err)
	}
	for i, ns := range times {
		if err := w.Write(ns, frame(i), 62, ""); err != nil {
			tb.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return path
}

// Time goes on from one loop to the next, whatever the capture's times are,
// and the number of packets to come is known.
func TestLoops(t *testing.T) {
	const end = math.MaxInt64
	tests := []struct {
		name  string
		times []int64
		want  []int64 // of three loops
	}{
		{"ordinary", []int64{5e9, 6e9}, []int64{5e9, 6e9, 6e9 + loopGap, 7e9 + loopGap, 7e9 + 2*loopGap, 8e9 + 2*loopGap}},
		{"one packet", []int64{5}, []int64{5, 5 + loopGap, 5 + 2*loopGap}},
		{"back in time", []int64{5e9, 4e9}, []int64{5e9, 4e9, 5e9 + loopGap, 4e9 + loopGap, 5e9 + 2*loopGap, 4e9 + 2*loopGap}},
		{"end of time", []int64{0, end - 1}, []int64{0, end - 1, end, end, end, end}},
		{"end and start", []int64{end, 0}, []int64{end, 0, end, 0, end, 0}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var rep CaptureReport
			s, err := openSource(Options{In: writeTimes(t, tt.times...), Loop: 3}, &rep)
			if err != nil {
				t.Fatal(err)
			}
			defer s.close()
			var got []int64
			for {
				ns, _, _, err := s.next()
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, ns)
				if n := s.total(); n < len(tt.times) || n > 10*len(tt.want) {
					t.Errorf("%d packets in all, want %d", n, len(tt.want))
				}
			}
			if len(got) != len(tt.want) || s.total() != len(tt.want) {
				t.Fatalf("%v, total %d, want %v", got, s.total(), tt.want)
			}
			for i := range got {
				if got[i] != tt.want[i] {
					t.Errorf("%v, want %v", got, tt.want)
					break
				}
			}
		})
	}
}
