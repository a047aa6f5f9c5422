package capture

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"sfc/testbed/gate"
)

// frame is an Ethernet frame with an IPv4 UDP packet of 4 bytes.
const frame = "\x02\x00\x00\x00\x00\x02\x02\x00\x00\x00\x00\x01\x08\x00" +
	"\x45\x00\x00\x20\x00\x01\x00\x00\x40\x11\x66\xca\x0a\x00\x00\x01\x0a\x00\x00\x02" +
	"\x04\x00\x10\x00\x00\x0c\x00\x00data"

func writeSample(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "out.pcapng")
	w, err := Create(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []struct {
		timeNs  int64
		data    string
		origLen int
		comment string
	}{
		{1_700_000_000_123_456_789, frame, len(frame), ""},
		{1_700_000_000_123_456_790, frame[:40], len(frame), "acl.denied"},
		{1_700_000_001_000_000_000, frame, len(frame), "not UTF-8: \xff"},
	} {
		if err := w.Write(p.timeNs, []byte(p.data), p.origLen, p.comment); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestWriteRead(t *testing.T) {
	path := writeSample(t)
	got, err := ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want := []Packet{
		{TimeNs: 1_700_000_000_123_456_789, Data: []byte(frame), OrigLen: len(frame)},
		{TimeNs: 1_700_000_000_123_456_790, Data: []byte(frame[:40]), OrigLen: len(frame)},
		{TimeNs: 1_700_000_001_000_000_000, Data: []byte(frame), OrigLen: len(frame)},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("packets (-want +got):\n%s", d)
	}
	first, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	second, err := os.ReadFile(writeSample(t))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first, second) {
		t.Error("equal packets gave different files")
	}
}

func TestWriteRefuses(t *testing.T) {
	w, err := NewWriter(&bytes.Buffer{})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		timeNs  int64
		bytes   int
		origLen int
		want    string
	}{
		{-1, 1, 1, "before 1970"},
		{0, MaxPacket + 1, MaxPacket + 1, "above 262144"},
		{0, 2, 1, "original length 1"},
		{0, 2, 1 << 31, "original length 2147483648"},
	} {
		if err := w.Write(tt.timeNs, make([]byte, tt.bytes), tt.origLen, ""); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("Write(%d, %d bytes, %d) = %v, want %q", tt.timeNs, tt.bytes, tt.origLen, err, tt.want)
		}
	}
}

func TestWriteLongComment(t *testing.T) {
	var out bytes.Buffer
	w, err := NewWriter(&out)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Write(0, []byte(frame), len(frame), strings.Repeat("ä", 40_000)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(out.String(), "ä"); n != 32_767 {
		t.Errorf("%d characters of the comment kept, want 32767", n)
	}
	if packets, err := readAll(out.String()); err != nil || len(packets) != 1 {
		t.Errorf("read again: %d packets, %v", len(packets), err)
	}
}

// brokenPipe fails after the header has gone out.
type brokenPipe struct{ left int }

func (b *brokenPipe) Write(p []byte) (int, error) {
	if b.left -= len(p); b.left < 0 {
		return 0, errors.New("broken pipe")
	}
	return len(p), nil
}

func TestWriteReportsFailure(t *testing.T) {
	w, err := NewWriter(&brokenPipe{left: 10})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Write(0, []byte(frame), len(frame), ""); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err == nil || !strings.Contains(err.Error(), "broken pipe") {
		t.Errorf("Close = %v", err)
	}
	if _, err := Create(filepath.Join(t.TempDir(), "none", "out.pcapng")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Create in a missing folder = %v", err)
	}
}

// The tools people use read the file without complaint: exit status 0 and
// nothing on standard error but tcpdump's own greeting.
// A pipe whose reader has gone is an error, not a wait for ever.
func TestWriteToClosedPipe(t *testing.T) {
	r, pipe, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer pipe.Close()
	w, err := Create(fmt.Sprintf("/proc/self/fd/%d", pipe.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(r.Close(), pipe.Close()); err != nil {
		t.Fatal(err)
	}
	frame := make([]byte, MaxPacket)
	done := make(chan error, 1)
	go func() { done <- errors.Join(w.Write(1, frame, len(frame), ""), w.Close()) }()
	select {
	case err := <-done:
		if !errors.Is(err, unix.EPIPE) || strings.Count(err.Error(), "\n") != 0 {
			t.Errorf("got %v, want EPIPE, once", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("waits for a reader that has gone")
	}
}

func TestToolsReadIt(t *testing.T) {
	path := writeSample(t)
	tests := []struct {
		args []string
		want []string
	}{
		{[]string{"tcpdump", "--nano", "-nn", "-tt", "-r", path}, []string{"1700000000.123456789 IP 10.0.0.1.1024 > 10.0.0.2.4096: UDP"}},
		{[]string{"capinfos", "-M", path}, []string{"Number of packets:   3", "nanoseconds (9)"}},
		{[]string{"tshark", "-r", path, "-T", "fields", "-e", "frame.time_epoch", "-e", "frame.cap_len", "-e", "frame.len", "-e", "frame.comment"},
			[]string{"1700000000.123456790\t40\t46\tacl.denied", "not UTF-8: ?"}},
	}
	for _, tt := range tests {
		t.Run(tt.args[0], func(t *testing.T) {
			cmd := exec.Command(gate.Tool(t, tt.args[0]), tt.args[1:]...)
			var out, complaints strings.Builder
			cmd.Stdout, cmd.Stderr = &out, &complaints
			if err := cmd.Run(); err != nil {
				t.Fatalf("%v\n%s", err, complaints.String())
			}
			for _, w := range tt.want {
				if !strings.Contains(out.String(), w) {
					t.Errorf("output lacks %q:\n%s", w, out.String())
				}
			}
			for line := range strings.Lines(complaints.String()) {
				if !strings.Contains(line, "reading from file") && !strings.Contains(line, "Running as user") {
					t.Errorf("complaint: %s", line)
				}
			}
		})
	}
}

// A capture of several interfaces names them, and its packets theirs.
func TestWriterInterfaces(t *testing.T) {
	var file bytes.Buffer
	w, err := NewWriter(&file, "in", "out")
	if err != nil {
		t.Fatal(err)
	}
	for i, link := range []int{0, 1, 0} {
		if err := w.WriteOn(link, int64(i), []byte{byte(i)}, 1, ""); err != nil {
			t.Fatal(err)
		}
	}
	for _, link := range []int{-1, 2} {
		if err := w.WriteOn(link, 0, nil, 0, ""); err == nil {
			t.Errorf("interface %d: no error", link)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	for _, option := range []string{"\x02\x00\x02\x00in", "\x02\x00\x03\x00out"} {
		if !bytes.Contains(file.Bytes(), []byte(option)) {
			t.Errorf("no option %q", option)
		}
	}
	r, err := NewReader(&file, "test")
	if err != nil {
		t.Fatal(err)
	}
	for i, link := range []int{0, 1, 0} {
		p, err := r.Next()
		if err != nil || p.Interface != link || p.Data[0] != byte(i) {
			t.Errorf("packet %d: %+v, %v", i, p, err)
		}
	}
}
