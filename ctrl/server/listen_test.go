package server

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"sfc/ctrl/api"
	"sfc/testbed/gate"
)

// The socket is its owner's and group's, replaces what a crash left behind, and
// nothing else.
func TestListenUnix(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l := must[net.Listener](t)(ListenUnix(path, -1))
	info := must[os.FileInfo](t)(os.Lstat(path))
	if info.Mode().Perm() != 0o660 || info.Mode()&os.ModeSocket == 0 {
		t.Errorf("mode %v", info.Mode())
	}
	if _, err := ListenUnix(path, -1); err == nil {
		t.Error("a socket that is in use was taken")
	}
	l.Close()
	l = must[net.Listener](t)(ListenUnix(path, -1))
	l.Close()
	if left := must[[]os.DirEntry](t)(os.ReadDir(filepath.Dir(path))); len(left) != 1 {
		t.Errorf("left behind: %v", left)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("keep me"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ListenUnix(file, -1); err == nil {
		t.Error("a file was replaced")
	}
	if _, err := ListenTLS("127.0.0.1:0", nil); err == nil {
		t.Error("TCP without a certificate")
	}
}

// Who connects to the socket is known by the credentials that they had then.
func TestPeers(t *testing.T) {
	gate.Root(t)
	dir := must[string](t)(os.MkdirTemp("", "sfc-peer-")) // others may enter it
	defer os.RemoveAll(dir)
	w := start(t, dir, func(o *Options) {
		o.Groups = map[uint32]Grant{
			4001: {Role: api.Viewer},
			4002: {Tenant: "acme", Role: api.Admin},
			4003: {Role: api.Deployer},
		}
	})
	w.tenant(t, "acme", api.TenantSpec{})
	for _, path := range []string{dir, filepath.Join(dir, "s")} {
		if err := os.Chmod(path, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		gid    int
		groups []int
		tenant string
		role   api.Role // "": nobody
	}{
		{4001, nil, "", api.Viewer},
		{4000, []int{4002}, "acme", api.Admin},
		{4002, []int{4001}, "", api.Viewer},
		{4001, []int{4003, 4002}, "", api.Deployer},
		{4000, nil, "", ""},
	} {
		c := dialAs(t, filepath.Join(dir, "s"), 4242, tt.gid, tt.groups)
		fmt.Fprintf(c, "GET /v1/whoami HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
		resp := must[*http.Response](t)(http.ReadResponse(bufio.NewReader(c), nil))
		var id api.Identity
		if err := json.NewDecoder(resp.Body).Decode(&id); err != nil {
			t.Fatal(err)
		}
		c.Close()
		if (tt.role == "") != (resp.StatusCode == 401) || id.Role != tt.role || id.Tenant != tt.tenant || tt.role != "" && id.Name != "unix:uid=4242" {
			t.Errorf("%+v: %s %+v", tt, resp.Status, id)
		}
	}
}

// dialAs connects as another user: credentials are those of a thread, so one is
// spent on it.
func dialAs(t *testing.T, path string, uid, gid int, groups []int) net.Conn {
	t.Helper()
	type result struct {
		c   net.Conn
		err error
	}
	done := make(chan result)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with this
		c, err := func() (net.Conn, error) {
			fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				return nil, err
			}
			f := os.NewFile(uintptr(fd), path)
			defer f.Close()
			if err := unix.Setgroups(groups); err != nil {
				return nil, err
			}
			if _, _, errno := unix.RawSyscall(unix.SYS_SETRESGID, uintptr(gid), uintptr(gid), uintptr(gid)); errno != 0 {
				return nil, errno
			}
			if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, uintptr(uid), uintptr(uid), uintptr(uid)); errno != 0 {
				return nil, errno
			}
			if err := unix.Connect(fd, &unix.SockaddrUnix{Name: path}); err != nil {
				return nil, err
			}
			return net.FileConn(f)
		}()
		done <- result{c, err}
	}()
	r := <-done
	return must[net.Conn](t)(r.c, r.err)
}
