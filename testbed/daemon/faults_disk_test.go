package daemon

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sfc/ctrl/api"
	"sfc/ctrl/client"
)

// fill takes the room of a file system but for about free bytes.
func fill(t *testing.T, dir string, free int64) (path string) {
	t.Helper()
	path = filepath.Join(dir, fmt.Sprint("filler-", free))
	var st unix.Statfs_t
	check(t, unix.Statfs(dir, &st))
	file := must[*os.File](t)(os.Create(path))
	defer file.Close()
	if n := int64(st.Bavail)*st.Bsize - free; n > 0 {
		check(t, unix.Fallocate(int(file.Fd()), 0, 0, n))
	}
	return path
}

// On a full disk nothing can be changed, by name, and everything else goes on:
// reads, traffic, a daemon that is started then. With room again so do changes.
func TestFaultDiskFull(t *testing.T) {
	dir, ok := inOwnMounts(t, "256m")
	if !ok {
		return
	}
	f := newFaulty(t, dir)
	f.tenant("acme")
	f.ports(api.UnmatchedDrop)
	f.active("acme", "edge", 5)
	s := f.stream(5, time.Millisecond)
	// What the store leaves free for its own upkeep is not there any more.
	filler := fill(t, dir, 8<<20)
	p := is(t, func() error {
		_, err := f.api.Chains("acme").Create(t.Context(), chainOn("more", 6, "hop@1.0.0"))
		return err
	}(), 507, api.ReasonStorage)
	t.Logf("refused: %s", p.Detail)
	stat := module(t, "flowstat")
	_, err := f.api.Upload(t.Context(), "acme", client.Upload{Function: "flowstat", Version: versionOf(t, stat), Module: bytes.NewReader(stat), Size: int64(len(stat))})
	is(t, err, 507, api.ReasonStorage)
	f.problem("disk")
	// Now there is nothing at all: the audit log cannot be written either.
	rest := fill(t, dir, 0)
	_, err = f.api.Chains("acme").Create(t.Context(), chainOn("more", 6, "hop@1.0.0"))
	is(t, err, 507, api.ReasonStorage)
	must[*api.Chain](t)(f.api.Chains("acme").Get(t.Context(), "edge"))
	must[*api.Stats](t)(f.api.Stats(t.Context(), ""))
	pid, _ := f.child("control")
	check(t, unix.Kill(pid, unix.SIGKILL))
	f.await("back", func() string {
		if now, ok := f.child("control"); !ok || now == pid {
			return "no new control"
		}
		c, err := f.api.Chains("acme").Get(context.Background(), "edge")
		if err != nil || !c.Status.Active {
			return fmt.Sprint(c, err)
		}
		return ""
	})
	if lost := s.lost(); lost != 0 {
		t.Errorf("%d of %d packets were lost", lost, s.sent)
	}
	f.stop()
	f.start()
	f.running("acme/edge")
	check(t, os.Remove(rest))
	check(t, os.Remove(filler))
	f.await("written to", func() string {
		if _, err := f.api.Chains("acme").Create(context.Background(), chainOn("more", 6, "hop@1.0.0")); err != nil {
			return err.Error()
		}
		return ""
	})
	f.condition("acme", "more", api.Ready, api.True, "")
	f.well()
}

// Of a store that was damaged, what is lost is named to those who look after the
// host and put aside; everything else serves, and what ran goes on.
func TestFaultStoreDamaged(t *testing.T) {
	f := newFaulty(t, publicDir(t))
	f.tenant("acme")
	f.tenant("other")
	f.ports(api.UnmatchedDrop)
	f.active("acme", "edge", 5)
	f.active("other", "edge", 6)
	f.stop()
	blocks := must[[]string](t)(filepath.Glob(filepath.Join(f.data(), "store/jetstream/T_acme/streams/KV_chains/msgs/*.blk")))
	if len(blocks) == 0 {
		t.Fatal("there is nothing to damage")
	}
	for _, path := range append(blocks, filepath.Join(filepath.Dir(filepath.Dir(blocks[0])), "meta.inf")) {
		text := must[[]byte](t)(os.ReadFile(path))
		for i := range text {
			text[i] ^= 0x5a
		}
		check(t, os.WriteFile(path, text, 0o600))
	}
	f.start()
	f.problem("chains of acme")
	_, err := f.api.Chains("acme").List(t.Context(), client.ListOptions{})
	is(t, err, 503, api.ReasonUnavailable)
	must[*api.Function](t)(f.api.Function(t.Context(), "acme", "hop", "1.0.0"))
	f.running("acme/edge", "other/edge")
	for vlan, whose := range map[int]string{5: "acme, whose chain ran last and goes on", 6: "other"} {
		s := f.stream(vlan, time.Millisecond)
		time.Sleep(300 * time.Millisecond)
		if lost := s.lost(); lost != 0 || s.sent == 0 {
			t.Errorf("of %s %d of %d packets were lost", whose, lost, s.sent)
		}
	}
	kept := must[[]os.DirEntry](t)(os.ReadDir(filepath.Join(f.data(), "store/quarantine")))
	if len(kept) == 0 {
		t.Error("nothing was put aside")
	}
	// Strangers learn that something is damaged, not whose.
	p := must[*api.Chain](t)(f.api.Chains("other").Create(t.Context(), chainOn("second", 7, "hop@1.0.0")))
	f.condition("other", p.Metadata.Name, api.Ready, api.True, "")
	if !strings.Contains(f.log.String(), "damage") {
		t.Error("the log does not say so")
	}
}
