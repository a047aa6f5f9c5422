package server

import (
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"

	"sfc/ctrl/api"
)

// Of many who make the same at once one makes it, and all get it; of many who
// change it at once with one version one does, and without any all do.
func TestParallel(t *testing.T) {
	w := start(t, t.TempDir(), nil)
	w.tenant(t, "acme", api.TenantSpec{})
	chains := w.root.Chains("acme")
	const many = 16
	var wg sync.WaitGroup
	uids := make([]string, many)
	for i := range many {
		wg.Go(func() {
			c, err := chains.Create(t.Context(), chain("edge"))
			if err != nil {
				t.Error(err)
				return
			}
			uids[i] = c.Metadata.UID
		})
	}
	wg.Wait()
	for _, uid := range uids {
		if uid != uids[0] || uid == "" {
			t.Fatalf("made as %q", uids)
		}
	}
	have := must[*api.Chain](t)(chains.Get(t.Context(), "edge"))
	change := func(version string) (changed int64) {
		var n atomic.Int64
		for i := range many {
			wg.Go(func() {
				c := chain("edge")
				c.Spec.Priority = i + 1
				if version == "" {
					c.Spec.Priority += many
				}
				c.Metadata.ResourceVersion = version
				_, err := chains.Put(t.Context(), "edge", c)
				if p := (&api.Problem{}); err == nil {
					n.Add(1)
				} else if !errors.As(err, &p) || p.Status != http.StatusConflict {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		return n.Load()
	}
	if n := change(have.Metadata.ResourceVersion); n != 1 {
		t.Errorf("%d changes of one version", n)
	}
	if n := change(""); n != many {
		t.Errorf("%d changes of any version, want %d", n, many)
	}
	last := must[*api.Chain](t)(chains.Get(t.Context(), "edge"))
	if last.Metadata.Generation != 2+many || last.Metadata.UID != uids[0] {
		t.Errorf("%+v", last.Metadata)
	}
}

// While tenants come and go nothing is made that outlives them.
func TestTenantsComeAndGo(t *testing.T) {
	w := start(t, t.TempDir(), nil)
	var wg sync.WaitGroup
	for worker := range 4 {
		wg.Go(func() {
			for i := range 20 {
				name := fmt.Sprintf("t%d", (worker+i)%2)
				var err error
				if worker < 2 {
					if _, err = w.root.Tenants().Put(t.Context(), name, &api.Tenant{}); err == nil {
						err = w.root.Tenants().Delete(t.Context(), name, "")
					}
				} else {
					_, err = w.root.Keys(name).Put(t.Context(), "k", key(""))
				}
				if p := (&api.Problem{}); err != nil && (!errors.As(err, &p) || p.Status != 404 && p.Status != 409 && p.Status != 503) {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	for _, name := range []string{"t0", "t1"} {
		if err := w.root.Tenants().Delete(t.Context(), name, ""); err != nil && !api.IsReason(err, api.ReasonNotFound) {
			t.Error(err)
		}
		w.tenant(t, name, api.TenantSpec{})
		if keys := must[*api.List[api.Key]](t)(w.root.Keys(name).All(t.Context())); len(keys.Items) > 0 {
			t.Errorf("%s has %d keys from before", name, len(keys.Items))
		}
	}
}
