package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sfc/testbed/gate"
)

// What a lab answers, and whom.
func TestRequests(t *testing.T) {
	gate.Root(t)
	gate.Leaks(t)
	dir := t.TempDir()
	c := run(t, Options{Dir: dir})

	for path, want := range map[string]os.FileMode{c.site.socket: 0o600 | os.ModeSocket, c.site.lock: 0o600} {
		if st, err := os.Stat(path); err != nil || st.Mode() != want {
			t.Errorf("%s: %v, %v, want %v", path, st.Mode(), err, want)
		}
	}
	s, err := c.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if s.Name != DefaultName || s.PID != os.Getpid() || s.Mode != Inline || s.Attach != "native" || s.Memory != "exclusive" ||
		len(s.Cores) != 1 || !slices.Equal(s.Chains, []string{"test/guard"}) || len(s.Hosts) != 3 || s.UpNs <= 0 {
		t.Errorf("%+v", s)
	}
	for _, tt := range []struct{ send, want string }{
		{"", "read request"},
		{"junk", "read request"},
		{`{"version":1,"op":"status","args":` + strings.Repeat("[", 100), "read request"},
		{`{"version":1,"op":"` + strings.Repeat("x", maxRequest), "read request"},
		{`{"version":2,"op":"status"}`, "version 1 of the requests, not 2"},
		{`{"version":1,"op":"fly"}`, `unknown request "fly"`},
		{`{"version":1,"op":"move","args":{"bucket":"x"}}`, "arguments of move"},
		{`{"version":1,"op":"move"}`, "arguments of move"},
		{`{"version":1,"op":"move","args":{"bucket":1024,"to":0}}`, "bucket 1024: a chain has buckets 0 to 1023"},
		{`{"version":1,"op":"move","args":{"bucket":-1,"to":0}}`, "bucket -1"},
		{`{"version":1,"op":"move","args":{"bucket":1,"to":1}}`, "worker"},
		{`{"version":1,"op":"move","args":{"bucket":1,"to":0,"chain":"other"}}`, `no chain "other"; there is test/guard`},
		{`{"version":1,"op":"swap","args":{"function":"gate"}}`, `no function "gate"; it has firewall, flowstat`},
		{`{"version":1,"op":"swap","args":{"function":"firewall"}}`, "nothing new"},
		{`{"version":1,"op":"swap","args":{"function":"firewall","config":{"default":"maybe"}}}`, "maybe"},
		{`{"version":1,"op":"swap","args":{"function":"firewall","module":"/no/such.wasm"}}`, "/no/such.wasm"},
		{`{"version":1,"op":"flows","args":{"limit":0}}`, "limit 0"},
		{`{"version":1,"op":"flows","args":{"limit":10,"bucket":5000}}`, "bucket 5000"},
		{`{"version":1,"op":"enter","args":{"host":"moon"}}`, `no host "moon"`},
	} {
		rep := ask(t, c, tt.send)
		if !strings.Contains(rep.Error, tt.want) || rep.Version != Version || rep.Result != nil {
			t.Errorf("%.60s: %+v, want %q", tt.send, rep, tt.want)
		}
	}
	// After all of this it still works.
	if _, err := c.Stats(t.Context()); err != nil {
		t.Error(err)
	}
	// A name that runs cannot run again; another can, at the same time.
	if err := Run(t.Context(), Options{Dir: dir, Chains: []string{chainFile(t)}}, nil); !errors.Is(err, ErrRunning) {
		t.Errorf("twice: %v", err)
	}
	second := run(t, Options{Dir: dir, Name: "second"})
	echo(t, second, 7)
	on(t, second, HostClient, func() error { return datagrams("10.0.1.2:7", 1) })
	if names, err := Running(dir); err != nil || !slices.Equal(names, []string{DefaultName, "second"}) {
		t.Errorf("%q, %v", names, err)
	}
}

// ask sends text as it is and reads the reply.
func ask(t *testing.T, c *Client, text string) (rep reply) {
	t.Helper()
	conn, err := c.connect()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	// The lab may answer, and close, before it has read everything.
	_, _ = conn.Write([]byte(text))
	_ = conn.CloseWrite()
	answer, err := io.ReadAll(conn)
	if err != nil && !errors.Is(err, unix.ECONNRESET) {
		t.Fatal(err)
	}
	if err := json.Unmarshal(answer, &rep); err != nil {
		t.Errorf("%.60s: reply %q: %v", text, answer, err)
	}
	return rep
}

// Whoever connects and says nothing keeps nobody else waiting, and the lab can
// end.
func TestSilentClient(t *testing.T) {
	gate.Root(t)
	gate.Leaks(t)
	c := run(t, Options{})
	for range 10 {
		conn, err := c.connect()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
	}
	if _, err := c.Status(t.Context()); err != nil {
		t.Error(err)
	}
	// The clean-up of run ends the lab while they are connected.
	start := time.Now()
	t.Cleanup(func() {
		if took := time.Since(start); took > requestTimeout/2 {
			t.Errorf("the lab took %v to end", took)
		}
	})
}

// A caller who does not wait is not kept.
func TestCallEndsWithContext(t *testing.T) {
	dir := t.TempDir()
	at := siteOf(dir, DefaultName)
	l, err := net.Listen("unix", at.socket) // never accepts
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	c := &Client{name: DefaultName, site: at}
	if _, err := c.Status(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}

// envChild makes the test binary a lab of its own, in the folder that it names.
const envChild = "SFC_TEST_LAB"

// child is the life of such a process.
func child(dir string) {
	err := Run(context.Background(), Options{Dir: dir, Chains: []string{os.Getenv(envChild + "_CHAIN")}}, func(Status) { fmt.Println("up") })
	fmt.Println(err)
	os.Exit(1)
}

// A lab whose process is killed leaves nothing in the kernel, and its place is
// taken by the next.
func TestSIGKILL(t *testing.T) {
	gate.Root(t)
	gate.Leaks(t)
	dir := t.TempDir()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), envChild+"="+dir, envChild+"_CHAIN="+chainFile(t))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()
	line := make([]byte, 512)
	if n, err := out.Read(line); err != nil || string(line[:n]) != "up\n" {
		t.Fatalf("the child says %q, %v", line[:n], err)
	}
	c := dial(t, Options{Dir: dir})
	linked := func() (there bool) {
		err := c.within(t.Context(), HostClient, func() error {
			_, err := net.InterfaceByName(hostLink)
			there = err == nil
			return nil
		})
		return there && err == nil
	}
	if !linked() {
		t.Error("the client has no link")
	}
	// A descriptor of ours keeps the namespace, but what is in it is the lab's.
	ns, _, err := c.enter(t.Context(), HostClient)
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // killed, as it says
	eventually(t, "the killed lab's link is gone", func() bool {
		var there bool
		if err := onThread(ns, func() error {
			_, err := net.InterfaceByName(hostLink)
			there = err == nil
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		return !there
	})
	if _, err := c.Status(t.Context()); !errors.Is(err, ErrNoLab) || !strings.Contains(err.Error(), "was killed") {
		t.Errorf("asking a dead lab: %v", err)
	}
	if names, err := Running(dir); err != nil || len(names) != 0 {
		t.Errorf("running: %q, %v", names, err)
	}
	t.Run("replaced", func(t *testing.T) {
		next := run(t, Options{Dir: dir})
		if s, err := next.Status(t.Context()); err != nil || s.PID != os.Getpid() {
			t.Errorf("%+v, %v", s, err)
		}
	})
	if files, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || len(files) != 0 {
		t.Errorf("left: %q, %v", files, err)
	}
}

// Down takes what a dead lab left, and says when there is none.
func TestDownWithoutLab(t *testing.T) {
	gate.Root(t)
	gate.Leaks(t)
	dir := t.TempDir()
	c := dial(t, Options{Dir: dir})
	if dead, err := c.Down(t.Context()); dead || !errors.Is(err, ErrNoLab) {
		t.Errorf("%v, %v", dead, err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: c.site.socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close() // as a killed process leaves it
	if dead, err := c.Down(t.Context()); !dead || err != nil {
		t.Errorf("%v, %v", dead, err)
	}
	if dead, err := c.Down(t.Context()); dead || !errors.Is(err, ErrNoLab) {
		t.Errorf("%v, %v", dead, err)
	}
}

// A folder that others can write to is no place for a lab: they could put a
// socket of their own there.
func TestFolder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "open")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, _, err := siteOf(dir, DefaultName).claim(); err == nil || !strings.Contains(err.Error(), "others must not") {
		t.Errorf("%v", err)
	}
}

func TestCheckName(t *testing.T) {
	for name, ok := range map[string]bool{
		"lab": true, "a-1": true, "": false, "../x": false, "a/b": false, "A": false, "a.b": false, strings.Repeat("a", 33): false,
	} {
		if err := CheckName(name); (err == nil) != ok {
			t.Errorf("%q: %v", name, err)
		}
	}
}
