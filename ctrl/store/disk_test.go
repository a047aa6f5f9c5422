package store

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sfc/testbed/gate"
)

// mountsDir is set in a process that has mounts of its own.
const mountsDir = "SFC_STORE_MOUNTS"

// ownMounts runs the test again in a process with a mount namespace of its own,
// and returns false; in that process it mounts a small file system and returns
// true with its directory. A namespace of a thread would not do: the server
// writes from many.
func ownMounts(t *testing.T, size string) (dir string, ok bool) {
	t.Helper()
	gate.Root(t)
	if os.Getenv(mountsDir) == "" {
		cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
		cmd.Env = append(os.Environ(), mountsDir+"=1")
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
			t.Errorf("with mounts of its own: %v\n%s", err, out)
		}
		return "", false
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		t.Fatal(err)
	}
	dir = t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir, true
}

// fill writes a file that leaves about free bytes of the file system.
func fill(t *testing.T, dir string, free int64) (path string) {
	t.Helper()
	path = filepath.Join(dir, "filler")
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	if n := int64(st.Bavail)*st.Bsize - free; n > 0 {
		if err := os.WriteFile(path, make([]byte, n), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

// A full directory refuses writes, by name, before the server sees them; reads
// and deletions go on, and so do writes when there is room again.
func TestDirectoryFull(t *testing.T) {
	dir, ok := ownMounts(t, "16m")
	if !ok {
		return
	}
	s := open(t, filepath.Join(dir, "store"), Options{MinFree: 4 << 20})
	sp := tenant(t, s, "acme", Limits{})
	b, m := bucket(t, sp, "desired"), modules(t, sp)
	kept := must[uint64](t)(b.Create(t.Context(), "kept", []byte("v")))
	old := must[uint64](t)(b.Create(t.Context(), "old", []byte("v")))
	mod := put(t, m, content(1, chunkSize))
	filler := fill(t, dir, 3<<20)

	_, err := b.Create(t.Context(), "more", []byte("v"))
	is(t, err, ErrFull)
	_, err = b.Update(t.Context(), "kept", []byte("w"), kept)
	is(t, err, ErrFull)
	_, err = m.Put(t.Context(), bytes.NewReader(content(2, 4*chunkSize)), PutOptions{MaxSize: 1 << 30})
	is(t, err, ErrFull)
	_, err = sp.Bucket(t.Context(), "another")
	is(t, err, ErrFull)
	if !strings.Contains(err.Error(), dir) {
		t.Errorf("%v does not name %s", err, dir)
	}
	if e := must[Entry](t)(b.Get("kept")); string(e.Value) != "v" {
		t.Errorf("kept is %q", e.Value)
	}
	must[[]byte](t)(m.Get(t.Context(), mod.Digest))
	must[uint64](t)(b.Delete(t.Context(), "old", old))
	if err := m.Delete(t.Context(), mod.Digest); err != nil {
		t.Error(err)
	}

	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	must[uint64](t)(b.Update(t.Context(), "kept", []byte("w"), kept))
	must[uint64](t)(b.Create(t.Context(), "more", []byte("v")))
	put(t, m, content(2, 4*chunkSize))
}

// When somebody else takes the last room at the worst moment, a write fails in
// the middle. Afterwards the store is as after a crash, and heals by itself.
func TestDirectoryFullInTheMiddle(t *testing.T) {
	dir, ok := ownMounts(t, "16m")
	if !ok {
		return
	}
	s := open(t, filepath.Join(dir, "store"), Options{MinFree: 1, Timeout: 3 * time.Second})
	sp := tenant(t, s, "acme", Limits{})
	b := bucket(t, sp, "desired")
	w := must[*Watcher](t)(b.Watch("", b.Revision()))
	written := map[string][]byte{}
	value := func(i int) []byte { return content(i, 10_000) }
	for i := range 5 {
		key := fmt.Sprint("before/", i)
		must[uint64](t)(b.Create(t.Context(), key, value(i)))
		written[key] = value(i)
	}
	// Past the look at the room, as if there had been some a moment ago.
	filler := fill(t, dir, 0)
	_, err := b.write(t.Context(), "failed", value(100), nil, 0)
	is(t, err, ErrFull)
	t.Logf("written without room: %v", err)
	_, err = b.Create(t.Context(), "refused", value(101))
	is(t, err, ErrFull)
	if e := must[Entry](t)(b.Get("before/0")); !bytes.Equal(e.Value, written["before/0"]) {
		t.Error("what was written is not read")
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	for begin := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		if _, err = b.Create(t.Context(), "after", value(102)); err == nil || errors.Is(err, ErrExists) {
			t.Logf("writes went on %v after there was room", time.Since(begin).Round(time.Millisecond))
			break
		}
		if time.Since(begin) > 20*time.Second {
			t.Fatalf("it does not heal: %v", err)
		}
	}
	written["after"] = value(102)
	for key, want := range written {
		if e := must[Entry](t)(b.Get(key)); !bytes.Equal(e.Value, want) {
			t.Errorf("%s: %d bytes, want %d", key, len(e.Value), len(want))
		}
	}
	// The watcher has not noticed, but for a write whose fate was open.
	for seen := 0; seen < len(written); {
		ev := must[Event](t)(w.Next(t.Context()))
		if want, ours := written[ev.Key]; ours && bytes.Equal(ev.Value, want) {
			seen++
		} else if ev.Key != "failed" || !bytes.Equal(ev.Value, value(100)) {
			t.Fatalf("the watcher saw %q, %d bytes", ev.Key, len(ev.Value))
		}
	}
	for _, d := range s.Damage() {
		t.Error(d)
	}
}

func TestDirectoryReadOnly(t *testing.T) {
	dir, ok := ownMounts(t, "16m")
	if !ok {
		return
	}
	s := open(t, filepath.Join(dir, "store"), Options{MinFree: 1 << 20})
	must[uint64](t)(bucket(t, tenant(t, s, "acme", Limits{}), "desired").Create(t.Context(), "k", []byte("v")))
	shut(t, s)
	remount := func(flags uintptr) {
		if err := unix.Mount("", dir, "", unix.MS_REMOUNT|flags, ""); err != nil {
			t.Fatal(err)
		}
	}
	remount(unix.MS_RDONLY)
	for _, path := range []string{s.Dir(), filepath.Join(dir, "new")} {
		_, err := Open(t.Context(), path, Options{})
		is(t, err, ErrReadOnly)
		if !strings.Contains(err.Error(), path) {
			t.Errorf("%v does not name %s", err, path)
		}
	}
	is(t, s.disk.check(0), ErrReadOnly)
	remount(0)
	s = open(t, s.Dir(), Options{MinFree: 1 << 20})
	must[Entry](t)(bucket(t, tenant(t, s, "acme", Limits{}), "desired").Get("k"))
}

// A second process is told who has the store, and gets it when that one is gone,
// however it went.
func TestSecondProcess(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Options{})
	_, err := Open(t.Context(), dir, Options{})
	var l *LockedError
	if !errors.As(err, &l) || l.PID != os.Getpid() {
		t.Fatalf("opened twice: %v", err)
	}
	shut(t, s)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), victimDir+"="+dir)
	var out lockedBuffer
	cmd.Stdout = &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for begin := time.Now(); !strings.HasPrefix(out.String(), "R") && time.Since(begin) < 20*time.Second; {
		time.Sleep(time.Millisecond)
	}
	_, err = Open(t.Context(), dir, Options{})
	if !errors.As(err, &l) || l.PID != cmd.Process.Pid || !strings.Contains(err.Error(), fmt.Sprint(l.PID)) {
		t.Errorf("opened beside process %d: %v", cmd.Process.Pid, err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Error(err)
	}
	// The victim was killed: its error says no more.
	_ = cmd.Wait()
	open(t, dir, Options{})
}
