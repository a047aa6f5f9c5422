package main

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bytecodealliance/wasmtime-go/v39"

	"sfc/dataplane/packet"
	"sfc/nf"
	"sfc/testbed/capture"
)

// udpFrame is an IPv4 frame of the given length (at least 42 bytes, at most
// what IPv4 can say) with correct checksums; n makes it different from others.
func udpFrame(length, n int) []byte {
	f := make([]byte, length)
	copy(f, "\x02\x00\x00\x00\x00\x02\x02\x00\x00\x00\x00\x01\x08\x00")
	copy(f[14:], "\x45\x00\x00\x00\x00\x00\x40\x00\x40\x11\x00\x00\x0a\x00\x00\x01\x0a\x00\x00\x02")
	be := binary.BigEndian
	be.PutUint16(f[16:], uint16(length-14))
	be.PutUint16(f[18:], uint16(n))
	be.PutUint16(f[34:], uint16(1024+n%60000))
	be.PutUint16(f[36:], 4000)
	be.PutUint16(f[38:], uint16(length-34))
	for i := 42; i < length; i++ {
		f[i] = byte(i * n)
	}
	packet.SetChecksums(f)
	return f
}

// writeCapture writes frames, a millisecond apart.
func writeCapture(tb testing.TB, frames ...[]byte) string {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "in.pcapng")
	w, err := capture.Create(path)
	if err != nil {
		tb.Fatal(err)
	}
	for i, f := range frames {
		if err := w.Write(1_700_000_000_000_000_000+int64(i)*1_000_000, f, len(f), ""); err != nil {
			tb.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return path
}

// udpCapture is a capture of n frames of 100 bytes.
func udpCapture(tb testing.TB, n int) string {
	tb.Helper()
	frames := make([][]byte, n)
	for i := range frames {
		frames[i] = udpFrame(100, i)
	}
	return writeCapture(tb, frames...)
}

// pcapHeader begins a pcap file (microseconds, little-endian).
func pcapHeader(linkType uint32) []byte {
	le := binary.LittleEndian
	h := le.AppendUint32(nil, 0xa1b2c3d4)
	h = le.AppendUint16(h, 2)
	h = le.AppendUint16(h, 4)
	h = append(h, make([]byte, 8)...)
	h = le.AppendUint32(h, 65535)
	return le.AppendUint32(h, linkType)
}

// pcapRecord is a packet in a pcap file that claims to hold n bytes.
func pcapRecord(n uint32, data []byte) []byte {
	le := binary.LittleEndian
	r := le.AppendUint32(nil, 1_700_000_000)
	r = le.AppendUint32(r, 0)
	r = le.AppendUint32(r, n)
	r = le.AppendUint32(r, n)
	return append(r, data...)
}

// join puts a file together.
func join(parts ...[]byte) []byte {
	var all []byte
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}

// chainFile writes a chain of one function called guest.
func chainFile(tb testing.TB, module, config string) string {
	tb.Helper()
	module, err := filepath.Abs(module)
	if err != nil {
		tb.Fatal(err)
	}
	return writeFile(tb, "chain.yaml", []byte(chainHead+fmt.Sprintf(
		"spec:\n  match: [{port: in}]\n  egress: out\n  functions:\n    - {name: guest, module: %q, config: %s}\n", module, config)))
}

// assembled writes the module that a file of the text format describes: a line
// ";; manifest: {...}" is appended as the manifest's section. It returns the
// expectation of its line ";; expect: kind: text" too.
func assembled(tb testing.TB, path string) (module, kind, text string) {
	tb.Helper()
	source, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	line := func(name string) string {
		_, rest, _ := strings.Cut("\n"+string(source), "\n;; "+name+": ")
		rest, _, _ = strings.Cut(rest, "\n")
		return rest
	}
	if filepath.Ext(path) == ".bin" {
		return writeFile(tb, "guest.wasm", source), "refused", ""
	}
	wasm, err := wasmtime.Wat2Wasm(string(source))
	if err != nil {
		tb.Fatalf("%s: %v", path, err)
	}
	if m := line("manifest"); m != "" {
		if wasm, err = nf.AppendManifest(wasm, []byte(m)); err != nil {
			tb.Fatalf("%s: %v", path, err)
		}
	}
	kind, text, ok := strings.Cut(line("expect"), ": ")
	if !ok {
		tb.Fatalf("%s has no line ;; expect: kind: text", path)
	}
	return writeFile(tb, "guest.wasm", wasm), kind, text
}
