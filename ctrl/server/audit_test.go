package server

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"sfc/ctrl/api"
)

// What was changed and what was refused is in the log, what was read is not.
func TestAudit(t *testing.T) {
	dir := t.TempDir()
	w := start(t, dir, nil)
	w.tenant(t, "acme", api.TenantSpec{})
	w.tenant(t, "other", api.TenantSpec{})
	c := w.as(t, w.token(t, "acme", "v", api.Viewer))
	must[*api.Identity](t)(c.Identity(t.Context()))
	_, err := c.Chains("acme").Create(t.Context(), chain("edge"))
	is(t, err, 403, api.ReasonForbidden)
	_, err = c.Chains("other").Get(t.Context(), "edge")
	is(t, err, 404, api.ReasonNotFound)
	must[*api.Chain](t)(w.root.Chains("acme").Create(t.Context(), chain("edge")))
	_, err = w.as(t, "sfc1.acme.v.AAAA").Identity(t.Context())
	is(t, err, 401, api.ReasonUnauthorized)
	log := must[*api.AuditList](t)(w.root.Audit(t.Context(), "", 0, 0))
	root := fmt.Sprintf("unix:uid=%d", w.uid)
	want := []string{
		root + " createTenant /v1/tenants 201 ok",
		root + " createTenant /v1/tenants 201 ok",
		root + " createToken /v1/tenants/acme/tokens 201 ok",
		"token:acme/v createChain /v1/tenants/acme/chains 403 Forbidden",
		"token:acme/v getChain /v1/tenants/other/chains/edge 404 NotFound",
		root + " createChain /v1/tenants/acme/chains 201 ok",
		"nobody getIdentity /v1/whoami 401 Unauthorized",
	}
	if len(log.Items) != len(want) {
		t.Fatalf("%d entries: %+v", len(log.Items), log.Items)
	}
	for i, e := range log.Items {
		if got := fmt.Sprintf("%s %s %s %d %s", e.Who, e.Operation, e.Object, e.Status, e.Result); got != want[i] || e.Seq != uint64(i+1) || e.Time.IsZero() || e.RequestID == "" {
			t.Errorf("entry %d: %s %+v, want %s", i, got, e, want[i])
		}
	}
	if from := log.Items[3].From; from != "127.0.0.1" {
		t.Errorf("from %q", from)
	}
	of := must[*api.AuditList](t)(w.root.Audit(t.Context(), "other", 1, 10))
	if len(of.Items) != 1 || of.Next != 7 {
		t.Errorf("of the other tenant: %+v", of)
	}
	w.stop()
	info := must[os.FileInfo](t)(os.Stat(filepath.Join(dir, "audit.log")))
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
	w = start(t, dir, nil)
	w.tenant(t, "third", api.TenantSpec{})
	log = must[*api.AuditList](t)(w.root.Audit(t.Context(), "", 7, 0))
	if len(log.Items) != 1 || log.Items[0].Seq != 8 {
		t.Errorf("after a restart: %+v", log)
	}
}

// Entries are found by number wherever they are, and numbers go on behind a line
// that a crash cut short.
func TestAuditFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit")
	a := must[*auditLog](t)(openAudit(path))
	const n = 6000
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range n / 8 {
				if err := a.append(api.AuditEntry{Who: "test", Object: fmt.Sprintf("/%0*d", 100+i%300, i)}, i%250 == 0); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	for _, after := range []uint64{0, 1, 2, n/2 - 1, n / 2, n - 2, n - 1, n, n + 5} {
		list := must[*api.AuditList](t)(a.read(after, false, "", 3))
		for i, e := range list.Items {
			if e.Seq != after+uint64(i)+1 {
				t.Errorf("after %d: entry %d is %d", after, i, e.Seq)
			}
		}
		if want := min(3, n-min(n, int(after))); len(list.Items) != want {
			t.Errorf("after %d: %d entries, want %d", after, len(list.Items), want)
		}
	}
	if list := must[*api.AuditList](t)(a.read(0, true, "", 2)); list.Items[1].Seq != n {
		t.Errorf("the latest: %+v", list.Items)
	}
	if err := a.close(); err != nil {
		t.Fatal(err)
	}
	f := must[*os.File](t)(os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0))
	must[int](t)(f.WriteString(`{"seq":99999,"who":"half`))
	f.Close()
	a = must[*auditLog](t)(openAudit(path))
	if err := a.append(api.AuditEntry{Who: "after"}, true); err != nil {
		t.Fatal(err)
	}
	list := must[*api.AuditList](t)(a.read(n, false, "", 10))
	if len(list.Items) != 1 || list.Items[0].Seq != n+1 || list.Items[0].Who != "after" {
		t.Errorf("behind half a line: %+v", list.Items)
	}
	if err := a.close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("something else\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if a, err := openAudit(path); err == nil {
		t.Error(errors.Join(errors.New("another file was taken for an audit log"), a.close()))
	}
}

// Without an audit log nothing is changed, but everything can be read; when it
// can be written again, so can the rest.
func TestAuditFails(t *testing.T) {
	w := start(t, t.TempDir(), nil)
	w.tenant(t, "acme", api.TenantSpec{})
	good := w.audit.file
	bad := must[*os.File](t)(os.Open(os.DevNull)) // cannot be written
	w.audit.mu.Lock()
	w.audit.file, w.audit.broken = bad, os.ErrClosed
	w.audit.mu.Unlock()
	_, err := w.root.Chains("acme").Create(t.Context(), chain("edge"))
	is(t, err, 507, api.ReasonStorage)
	must[*api.Tenant](t)(w.root.Tenants().Get(t.Context(), "acme"))
	if h := must[*api.Health](t)(w.root.Health(t.Context())); h.Status != "degraded" {
		t.Errorf("health %+v", h)
	}
	w.audit.mu.Lock()
	w.audit.file = good
	w.audit.mu.Unlock()
	bad.Close()
	must[*api.Chain](t)(w.root.Chains("acme").Create(t.Context(), chain("edge")))
}
