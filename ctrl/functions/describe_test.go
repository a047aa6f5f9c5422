package functions

import (
	"encoding/binary"
	"slices"
	"strings"
	"testing"
)

// producersSection is one as compilers write it.
func producersSection(fields ...[]string) []byte {
	text := func(b []byte, s string) []byte { return append(binary.AppendUvarint(b, uint64(len(s))), s...) }
	b := binary.AppendUvarint(text(nil, "producers"), uint64(len(fields)))
	for _, f := range fields {
		b = binary.AppendUvarint(text(b, f[0]), uint64(len(f)/2))
		for i := 1; i < len(f); i++ {
			b = text(b, f[i])
		}
	}
	return section(0, b)
}

func TestProducers(t *testing.T) {
	wasm := append([]byte("\x00asm\x01\x00\x00\x00"), producersSection(
		[]string{"processed-by", "rustc", "1.90.0", "clang", "19\x1b[31m"}, []string{"language", "Rust", ""})...)
	if got, want := producers(wasm), []string{"language Rust", "processed-by clang 19[31m", "processed-by rustc 1.90.0"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	var many [][]string
	for range 100 {
		many = append(many, []string{"language", strings.Repeat("x", 10_000), strings.Repeat("y", 10_000)})
	}
	many[7][1] = "other"
	got := producers(append([]byte("\x00asm\x01\x00\x00\x00"), producersSection(many...)...))
	if len(got) == 0 || len(got) > maxProducers || len(got[0]) > 3*maxProducerText {
		t.Errorf("%d are kept, the first of %d bytes", len(got), len(got[0]))
	}
	if got := producers([]byte("\x00asm\x01\x00\x00\x00")); got != nil {
		t.Errorf("%q of none", got)
	}
}

// Whatever the bytes are, reading ends and keeps no more than it may.
func FuzzProducers(f *testing.F) {
	f.Add(append([]byte("\x00asm\x01\x00\x00\x00"), producersSection([]string{"language", "C", "17"})...))
	f.Fuzz(func(t *testing.T, wasm []byte) {
		if got := producers(wasm); len(got) > maxProducers {
			t.Errorf("%d are kept", len(got))
		}
	})
}
