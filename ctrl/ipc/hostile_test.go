package ipc

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sfc/testbed/gate"
)

// raw returns a frame with a header of one's own.
func raw(object string, length uint32, files uint16) []byte {
	b := binary.LittleEndian.AppendUint32(nil, length)
	b = binary.LittleEndian.AppendUint16(b, files)
	return append(append(b, magic[:]...), object...)
}

func honest(object string) []byte { return raw(object, uint32(len(object)), 0) }

// A hostile peer says hello and then something bad: the connection ends, says
// why, and everything that came is closed.
func TestHostileFramesEndTheConnection(t *testing.T) {
	call := `{"kind":"call","id":1,"method":"wait","body":{}}`
	for _, tt := range []struct {
		name  string
		data  []byte
		files int
		want  string
	}{
		{"noise", []byte("GET / HTTP/1.1\r\n\r\n"), 0, "begins with"},
		{"endless frame", raw("{", MaxFrame+1, 0), 0, "a frame of 1048577 bytes"},
		{"thousands of descriptors announced", raw("{}", 2, 5000), 0, "5000 descriptors"},
		{"descriptors announced and none sent", raw(call, uint32(len(call)), 3), 0, "announces 3 descriptors and has 0"},
		{"descriptors sent and none announced", honest(call), 4, "no frame announced"},
		{"fewer announced than sent", raw(call, uint32(len(call)), 1), 4, "no frame announced"},
		{"no JSON", honest("\xff\x00"), 0, "invalid character"},
		{"deep JSON", honest(strings.Repeat("[", 100_000)), 2, "protocol violated"},
		{"unknown kind", honest(`{"kind":"shout"}`), 0, `kind "shout"`},
		{"second hello", honest(`{"kind":"hello"}`), 0, `kind "hello"`},
		{"far body without descriptor", honest(`{"kind":"call","id":1,"far":true}`), 0, "without its descriptor"},
		{"far body in a pipe", raw(`{"kind":"call","id":1,"far":true}`, 33, 1), 1, "no sealed memfd"},
		{"the same number twice", append(honest(call), honest(call)...), 0, "two calls with number 1"},
		{"end within a frame", raw("{", 100, 0), 0, "ends within a frame"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			gate.Leaks(t)
			m, _, _ := waiting()
			c, peer := attacked(t, m)
			var files []*os.File
			for range tt.files {
				r, w, err := os.Pipe()
				if err != nil {
					t.Fatal(err)
				}
				defer w.Close()
				files = append(files, r)
			}
			if err := send(peer, tt.data, files); err != nil {
				t.Fatal(err)
			}
			closeAll(files)
			if strings.Contains(tt.name, "end within") {
				peer.CloseWrite()
			}
			select {
			case <-c.Done():
			case <-time.After(5 * time.Second):
				t.Fatal("the connection goes on")
			}
			if err := c.Err(); !errors.Is(err, ErrProtocol) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("it ended with %v, want %q", err, tt.want)
			}
		})
	}
}

// attacked returns a connection, and the bare socket of a peer that has said
// hello.
func attacked(t *testing.T, m *Mux) (*Conn, *net.UnixConn) {
	t.Helper()
	x, y, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	nc, err := net.FileConn(y)
	y.Close()
	if err != nil {
		t.Fatal(err)
	}
	peer := nc.(*net.UnixConn)
	t.Cleanup(func() { peer.Close() })
	if err := send(peer, honest(`{"kind":"hello","body":{"version":1}}`), nil); err != nil {
		t.Fatal(err)
	}
	c, err := Open(t.Context(), x, Options{Mux: m})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c, peer
}

// A peer that calls and calls and never reads is cut off; nothing grows without
// bound meanwhile.
func TestAPeerThatDoesNotReadIsCutOff(t *testing.T) {
	gate.Leaks(t)
	c, peer := attacked(t, NewMux())
	frame := honest(`{"kind":"call","id":1,"method":"absent"}`)
	var batch []byte
	for range 500 {
		batch = append(batch, frame...)
	}
	for {
		peer.SetWriteDeadline(time.Now().Add(5 * time.Second))
		if _, err := peer.Write(batch); err != nil {
			break // cut off: EPIPE
		}
	}
	<-c.Done()
	if err := c.Err(); !errors.Is(err, ErrProtocol) || !strings.Contains(err.Error(), "answers are not read") {
		t.Errorf("it ended with %v", err)
	}
}

// A receiver that has no room for descriptors says so and ends, it does not
// take the wrong ones.
func TestDescriptorsThatDoNotFitAreNamed(t *testing.T) {
	gate.Leaks(t)
	m, _, _ := waiting()
	c, peer := attacked(t, m)
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var many []*os.File
	for range 100 {
		many = append(many, f)
	}
	fds, release, err := descriptors(many)
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	low := old
	low.Cur = uint64(fds[len(fds)-1] + 5)
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &low); err != nil {
		t.Fatal(err)
	}
	call := `{"kind":"call","id":1,"method":"wait","body":{}}`
	_, _, err = peer.WriteMsgUnix(raw(call, uint32(len(call)), 100), unix.UnixRights(fds...), nil)
	<-c.Done()
	if restoreErr := unix.Setrlimit(unix.RLIMIT_NOFILE, &old); restoreErr != nil {
		t.Fatal(restoreErr)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Err(); !strings.Contains(err.Error(), "RLIMIT_NOFILE") {
		t.Errorf("it ended with %v", err)
	}
}

// FuzzReader feeds the frame parser with a stream cut anywhere, with descriptors
// anywhere: it returns frames or an error, never more descriptors than came, and
// all that came are closed in the end.
func FuzzReader(f *testing.F) {
	call := `{"kind":"call","id":1,"method":"m","body":{"a":[1,2]}}`
	f.Add(raw(call, uint32(len(call)), 1), []byte{1, 10, 200})
	f.Add(append(honest(call), raw(call, uint32(len(call)), 2)...), []byte{0, 255, 2, 3})
	f.Add(raw("{", MaxFrame+1, 0), []byte{0, 8})
	f.Add([]byte{}, []byte{})
	null, err := os.Open(os.DevNull)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { null.Close() })
	f.Fuzz(func(t *testing.T, data, cuts []byte) {
		came := 0
		r := &reader{receive: func(p []byte) (int, []*os.File, error) {
			if len(data) == 0 {
				return 0, nil, io.EOF
			}
			n, files := len(data), 0
			if len(cuts) >= 2 {
				files, n, cuts = int(cuts[0])%4, int(cuts[1])+1, cuts[2:]
			}
			n = copy(p, data[:min(n, len(data))])
			data = data[n:]
			var list []*os.File
			for range files {
				list = append(list, null)
			}
			came += files
			return n, list, nil
		}}
		taken := 0
		for range 1000 {
			fr, files, err := r.next()
			if err != nil {
				if fr != nil || files != nil {
					t.Fatalf("a frame with the error %v", err)
				}
				break
			}
			if files.Len() > wireFiles {
				t.Fatalf("%d descriptors", files.Len())
			}
			taken += files.Len()
			if _, err := parseHello(fr); err == nil && fr.Kind != kindHello {
				t.Fatalf("a hello of kind %q", fr.Kind)
			}
		}
		if taken+len(r.queued) > came {
			t.Fatalf("%d descriptors came, %d were given out and %d wait", came, taken, len(r.queued))
		}
		r.queued = nil
	})
}
