package api

import (
	"encoding/json"
	"math"
	"testing"
)

func TestQuantities(t *testing.T) {
	for text, want := range map[string]Bytes{
		"0": 0, "64Mi": 64 << 20, "1Ki": 1024, "1k": 1000, "1500k": 1_500_000, "1024Ki": 1 << 20, "4096": 4096, "8388607Ti": math.MaxInt64 - 1<<40 + 1,
	} {
		got, err := ParseBytes(text)
		if err != nil || got != want {
			t.Errorf("%s: %d, want %d, err %v", text, got, want, err)
		}
	}
	for in, want := range map[Bytes]string{0: "0", 64 << 20: "64Mi", 1 << 20: "1Mi", 1000: "1000", 1025: "1025", 3 << 40: "3Ti"} {
		if got := in.String(); got != want {
			t.Errorf("%d prints as %s, want %s", in, got, want)
		}
	}
	for in, want := range map[Count]string{0: "0", 100_000: "100k", 1_500_000: "1500k", 2_000_000: "2M", 7: "7"} {
		if got := in.String(); got != want {
			t.Errorf("%d prints as %s, want %s", in, got, want)
		}
	}
	for text, want := range map[string]Share{"50%": 500, "12.5%": 125, "125": 125, "100%": 1000, "1000": 1000, "0%": 0, "0.1%": 1} {
		got, err := ParseShare(text)
		if err != nil || got != want {
			t.Errorf("%s: %d, want %d, err %v", text, got, want, err)
		}
	}
	for _, text := range []string{"", "Mi", "-1", "+1", "1.5Mi", "64mi", "64MiB", " 1", "1 k", "9223372036854775808", "8388608Ti", "0x10", "1e3", "1kk", "١"} {
		if n, err := ParseBytes(text); err == nil {
			t.Errorf("%q is %d bytes", text, n)
		}
	}
	for _, text := range []string{"64Mi", "1K", "k", "", "10000000T"} {
		if n, err := ParseCount(text); err == nil {
			t.Errorf("%q is %d", text, n)
		}
	}
	for _, text := range []string{"", "%", "101%", "1001", "12.55%", "12.%", ".5%", "12.5", "-1%", "1.2.3%", "50 %", "99999999999%"} {
		if n, err := ParseShare(text); err == nil {
			t.Errorf("%q is a share of %d", text, n)
		}
	}
}

// What is printed is read as the same, and what is read is never negative.
func FuzzQuantities(f *testing.F) {
	for _, seed := range []string{"64Mi", "100k", "50%", "12.5%", "0", "-1", "9223372036854775807", "1Ti"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if b, err := ParseBytes(text); err == nil {
			again, err := ParseBytes(b.String())
			if b < 0 || again != b || err != nil {
				t.Errorf("%q: %d bytes, printed as %s, read as %d, err %v", text, int64(b), b, int64(again), err)
			}
		}
		if c, err := ParseCount(text); err == nil {
			again, err := ParseCount(c.String())
			if c < 0 || again != c || err != nil {
				t.Errorf("%q: %d, printed as %s, read as %d, err %v", text, int64(c), c, int64(again), err)
			}
		}
		if s, err := ParseShare(text); err == nil {
			again, err := ParseShare(s.String())
			if s < 0 || s > 1000 || again != s || err != nil {
				t.Errorf("%q: %d, printed as %s, read as %d, err %v", text, int(s), s, int(again), err)
			}
		}
		in := must[[]byte](t)(json.Marshal(text))
		var spec TenantSpec
		if err := json.Unmarshal([]byte(`{"memory":`+string(in)+`}`), &spec); err == nil && spec.Memory < 0 {
			t.Errorf("%s is %d bytes", in, spec.Memory)
		}
	})
}

func must[T any](tb testing.TB) func(T, error) T {
	return func(v T, err error) T {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
		return v
	}
}
