package keeper

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sfc/testbed/gate"
)

func TestSystemdIsTold(t *testing.T) {
	gate.Leaks(t)
	path := filepath.Join(t.TempDir(), "notify")
	systemd, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer systemd.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	t.Setenv("WATCHDOG_USEC", "30000000")
	n := NewNotifier()
	if n.Watchdog() != 15*time.Second || os.Getenv("NOTIFY_SOCKET") != "" {
		t.Errorf("alive every %v, and children would inherit %q", n.Watchdog(), os.Getenv("NOTIFY_SOCKET"))
	}
	for want, say := range map[string]func() error{
		"READY=1": n.Ready, "STOPPING=1": n.Stopping, "WATCHDOG=1": n.Alive, "RELOADING=1\nMONOTONIC_USEC=": n.Reloading,
		"STATUS=two lines": func() error { return n.Status("two\nlines") },
	} {
		if err := say(); err != nil {
			t.Errorf("%s: %v", want, err)
			continue
		}
		b := make([]byte, 200)
		systemd.SetReadDeadline(time.Now().Add(time.Second))
		k, err := systemd.Read(b)
		if err != nil || !strings.HasPrefix(string(b[:k]), want) {
			t.Errorf("systemd heard %q, %v; want %q", b[:k], err, want)
		}
	}
	if none := NewNotifier(); none.Watchdog() != 0 || none.Ready() != nil {
		t.Error("without systemd")
	}
}

func TestSocketsOfTheAPI(t *testing.T) {
	gate.Leaks(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "api.sock")
	files, err := Listen(t.Context(), []string{"unix://" + path, "https://127.0.0.1:0"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer closeList(files)
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	// A client is taken before anybody serves.
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	if _, err := Listen(t.Context(), []string{"unix://" + path}, nil); !errors.Is(err, unix.EADDRINUSE) {
		t.Errorf("a socket in use: %v", err)
	}
	closeList(files[:1])
	again, err := Listen(t.Context(), []string{"unix://" + path}, nil) // nobody listens there any more
	if err != nil {
		t.Fatal(err)
	}
	closeList(again)
	plain := filepath.Join(dir, "file")
	if err := os.WriteFile(plain, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, address := range []string{"unix://" + plain, "http://127.0.0.1:1", "unix://relative", "https://127.0.0.1"} {
		if files, err := Listen(t.Context(), []string{address}, nil); err == nil {
			closeList(files)
			t.Errorf("listens on %s", address)
		}
	}
	if _, err := os.Stat(plain); err != nil {
		t.Errorf("a file that is no socket was removed: %v", err)
	}
}
