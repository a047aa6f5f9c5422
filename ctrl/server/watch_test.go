package server

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sfc/ctrl/api"
	"sfc/ctrl/store"
)

// told is what a watch said: type, name, generation and whether it is active.
func told(ev api.WatchEvent[api.Chain]) string {
	if ev.Object == nil {
		return ev.Type
	}
	return fmt.Sprintf("%s %s %d %v", ev.Type, ev.Object.Metadata.Name, ev.Object.Metadata.Generation, ev.Object.Status.Active)
}

// observe writes what is observed of a chain, as a reconciler would.
func (w *world) observe(t *testing.T, chain string, status api.ChainStatus) {
	t.Helper()
	space := must[*store.Space](t)(w.spaces.space(t.Context(), "acme"))
	bucket := must[*store.Bucket](t)(space.Bucket(t.Context(), api.BucketStatus))
	key := api.StatusKey(api.BucketChains, chain)
	value := must[[]byte](t)(json.Marshal(status))
	if e, err := bucket.Get(key); err == nil {
		must[uint64](t)(bucket.Update(t.Context(), key, value, e.Revision))
		return
	}
	must[uint64](t)(bucket.Create(t.Context(), key, value))
}

// A watch begins with what there is, tells changes of spec and status in order,
// marks how far it is, and goes on from there, also after a restart.
func TestWatch(t *testing.T) {
	dir := t.TempDir()
	w := start(t, dir, nil)
	w.tenant(t, "acme", api.TenantSpec{})
	chains := w.root.Chains("acme")
	must[*api.Chain](t)(chains.Create(t.Context(), chain("a")))
	w.observe(t, "a", api.ChainStatus{Active: true})

	next, stop := iter.Pull2(chains.Watch(t.Context(), ""))
	defer func() { stop() }()
	last := ""
	expect := func(want string) {
		t.Helper()
		for {
			ev, err, ok := next()
			if err != nil || !ok {
				t.Fatalf("%v, want %s", err, want)
			}
			last = ev.ResourceVersion
			if got := told(ev); got == want {
				return
			} else if got != api.Bookmark {
				t.Fatalf("%s, want %s", got, want)
			}
		}
	}
	expect("ADDED a 1 true")
	expect(api.Bookmark)
	must[*api.Chain](t)(chains.Create(t.Context(), chain("b")))
	expect("ADDED b 1 false")
	changed := chain("a")
	changed.Spec.Priority = 1
	must[*api.Chain](t)(chains.Put(t.Context(), "a", changed))
	expect("MODIFIED a 2 true")
	w.observe(t, "b", api.ChainStatus{Active: true})
	expect("MODIFIED b 1 true")
	expect(api.Bookmark)
	stop()

	// While nobody looks.
	if err := chains.Delete(t.Context(), "b", ""); err != nil {
		t.Fatal(err)
	}
	w.observe(t, "a", api.ChainStatus{})
	next, stop = iter.Pull2(chains.Watch(t.Context(), last))
	rest := map[string]bool{}
	for len(rest) < 2 {
		ev, err, _ := next()
		if err != nil {
			t.Fatal(err)
		}
		if got := told(ev); got != api.Bookmark {
			rest[got] = true
		}
		last = ev.ResourceVersion
	}
	if !rest["DELETED b 0 false"] || !rest["MODIFIED a 2 false"] {
		t.Errorf("told %v", rest)
	}
	// Until it has seen that b's status is gone, too.
	want := must[*api.List[api.Chain]](t)(chains.All(t.Context())).Metadata.ResourceVersion
	for begin := time.Now(); last != want; {
		ev, err, _ := next()
		if err != nil || time.Since(begin) > 5*time.Second {
			t.Fatalf("the watch is at %s, want %s, err %v", last, want, err)
		}
		last = ev.ResourceVersion
	}
	stop()

	w.stop()
	w = start(t, dir, nil)
	chains = w.root.Chains("acme")
	next, stop = iter.Pull2(chains.Watch(t.Context(), last))
	expect(api.Bookmark)
	must[*api.Chain](t)(chains.Create(t.Context(), chain("c")))
	expect("ADDED c 1 false")
	for _, bad := range []string{"1", "x.y", "1.2.3", "999999.0"} {
		for _, err := range chains.Watch(t.Context(), bad) {
			if p := (&api.Problem{}); !asProblemOf(err, &p) || p.Status/100 != 4 {
				t.Errorf("from %q: %v", bad, err)
			}
			break
		}
	}
}

// Who does not keep up is told to list again, and costs no memory meanwhile.
func TestWatchExpires(t *testing.T) {
	w := start(t, t.TempDir(), func(o *Options) { o.Limits.Write = 2 * time.Minute })
	w.tenant(t, "acme", api.TenantSpec{})
	chains := w.root.Chains("acme")
	c := must[net.Conn](t)(net.Dial("unix", filepath.Join(w.dir, "s")))
	defer c.Close()
	if err := c.(*net.UnixConn).SetReadBuffer(4096); err != nil {
		t.Fatal(err)
	}
	must[int](t)(io.WriteString(c, "GET /v1/tenants/acme/chains?watch=true HTTP/1.1\r\nHost: x\r\n\r\n"))
	// Large objects fill what the kernel holds, then more than the store keeps.
	big := chain("big")
	config := must[[]byte](t)(json.Marshal(map[string]string{"pad": strings.Repeat("x", 30_000)}))
	big.Spec.Functions[0].Config = config
	for i := range 80 {
		big.Spec.Priority = i + 1
		must[*api.Chain](t)(chains.Put(t.Context(), "big", big))
	}
	resp := must[*http.Response](t)(http.ReadResponse(bufio.NewReader(c), nil))
	dec := json.NewDecoder(resp.Body)
	for {
		var ev api.WatchEvent[api.Chain]
		if err := dec.Decode(&ev); err != nil {
			t.Fatal(err)
		}
		if ev.Type == api.Failed {
			is(t, ev.Problem, 410, api.ReasonExpired)
			break
		}
	}
	if err := dec.Decode(&struct{}{}); err != io.EOF {
		t.Errorf("after the end comes %v", err)
	}
	first := must[*api.List[api.Chain]](t)(chains.All(t.Context()))
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	for ev, err := range chains.Watch(ctx, first.Metadata.ResourceVersion) {
		if err != nil || ev.Type != api.Bookmark {
			t.Errorf("%+v, err %v", ev, err)
		}
		break
	}
}

// Kinds of the host are watched, too; deleted ones keep their names.
func TestWatchNames(t *testing.T) {
	w := start(t, t.TempDir(), nil)
	w.tenant(t, "acme", api.TenantSpec{})
	list := must[*api.List[api.Function]](t)(w.root.AllFunctions(t.Context(), "acme", ""))
	must[*api.Function](t)(w.root.Upload(t.Context(), "acme", upload1("1.0.0")))
	if err := w.root.DeleteFunction(t.Context(), "acme", "firewall", "1.0.0"); err != nil {
		t.Fatal(err)
	}
	var types []string
	for ev, err := range w.root.WatchFunctions(t.Context(), "acme", list.Metadata.ResourceVersion) {
		if err != nil {
			t.Fatal(err)
		}
		if ev.Object == nil {
			continue
		}
		if ev.Object.Metadata.Name != "firewall" || ev.Object.Spec.Version != "1.0.0" || ev.Object.Metadata.Tenant != "acme" {
			t.Errorf("%+v", ev.Object)
		}
		if types = append(types, ev.Type); ev.Type == api.Deleted {
			break
		}
	}
	if strings.Join(types, " ") != "ADDED DELETED" {
		t.Errorf("%q", types)
	}
	for ev, err := range w.root.Tokens("acme").Watch(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		if ev.Type == api.Bookmark {
			w.token(t, "", "host", api.Viewer) // not the tenant's
			w.token(t, "acme", "ci", api.Viewer)
			continue
		}
		if ev.Object.Metadata.Name != "ci" || ev.Object.Secret != "" {
			t.Errorf("%+v", ev.Object)
		}
		break
	}
}
