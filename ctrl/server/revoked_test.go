package server

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"sfc/ctrl/api"
	"sfc/ctrl/client"
	"sfc/ctrl/store"
)

// What was opened with a token ends when the token does.
func TestStreamsEndWithTheirToken(t *testing.T) {
	w := start(t, t.TempDir(), nil)
	w.tenant(t, "acme", api.TenantSpec{})
	c := w.as(t, w.token(t, "acme", "ci", api.Viewer))
	stays := w.as(t, w.token(t, "acme", "other", api.Viewer))
	ended, going := make(chan struct{}), make(chan struct{})
	follow := func(c *client.Client, over chan struct{}) {
		defer close(over)
		for _, err := range c.Events(t.Context(), "acme", client.EventQuery{Follow: true}) {
			if err != nil {
				return
			}
		}
	}
	go follow(c, ended)
	go follow(stays, going)
	time.Sleep(200 * time.Millisecond) // several looks at tokens that are good
	select {
	case <-ended:
		t.Fatal("a stream ended while its token was good")
	default:
	}
	if err := w.root.Tokens("acme").Delete(t.Context(), "ci", ""); err != nil {
		t.Fatal(err)
	}
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Fatal("a stream goes on without its token")
	}
	select {
	case <-going:
		t.Error("a stream ended with the token of another one")
	default:
	}
}

// More tokens are no more streams for a tenant.
func TestStreamsOfATenant(t *testing.T) {
	w := start(t, t.TempDir(), func(o *Options) { o.Limits.Streams = 2 })
	w.tenant(t, "acme", api.TenantSpec{})
	must[*api.Identity](t)(w.as(t, w.token(t, "acme", "ci", api.Viewer)).Identity(t.Context()))
	open := func(name string) (func(), error) {
		r := &request{s: w.Server, who: &principal{name: "token:acme/" + name, tenant: "acme"}}
		return r.openStream()
	}
	var done []func()
	for i := range streamsPerTenant {
		for range 2 {
			end, err := open(fmt.Sprint(i))
			if err != nil {
				t.Fatal(err)
			}
			done = append(done, end)
		}
	}
	_, err := open("0")
	is(t, err, 429, api.ReasonRate)
	_, err = open("more")
	is(t, err, 429, api.ReasonRate)
	for _, end := range done {
		end()
	}
	if n := len(w.streams.count); n != 0 {
		t.Errorf("%d callers are remembered: %v", n, w.streams.count)
	}
}

// Tokens are kept with what is the host's, so a tenant cannot have any number.
func TestTokensAreBounded(t *testing.T) {
	w := start(t, t.TempDir(), nil)
	w.tenant(t, "acme", api.TenantSpec{})
	bucket := must[*store.Bucket](t)(w.spaces.system.Bucket(t.Context(), api.BucketTokens))
	for i := range maxTokens - 1 {
		record := tokenRecord{Token: api.Token{Metadata: api.Metadata{Name: fmt.Sprintf("t%d", i), Tenant: "acme"}}}
		must[uint64](t)(bucket.Create(t.Context(), api.TokenKey("acme", record.Metadata.Name), must[[]byte](t)(json.Marshal(record))))
	}
	w.token(t, "acme", "last", api.Viewer)
	_, err := w.root.Tokens("acme").Create(t.Context(), &api.Token{Metadata: api.Metadata{Name: "more"}, Spec: api.TokenSpec{Role: api.Viewer}})
	is(t, err, 403, api.ReasonQuota)
	w.token(t, "", "host", api.Viewer)
}

// A tenant learns nothing of an earlier one of its name.
func TestEventsOfAnEarlierTenant(t *testing.T) {
	w := start(t, t.TempDir(), nil)
	w.tenant(t, "acme", api.TenantSpec{})
	w.Publish(api.Event{Kind: "control", Tenant: "acme", Text: "before"})
	if err := w.root.Tenants().Delete(t.Context(), "acme", ""); err != nil {
		t.Fatal(err)
	}
	w.tenant(t, "acme", api.TenantSpec{})
	w.Publish(api.Event{Kind: "control", Tenant: "acme", Text: "after"})
	for tenant, want := range map[string]string{"acme": "after", "": "before,after"} {
		var told []string
		for e, err := range w.root.Events(t.Context(), tenant, client.EventQuery{Kind: "control"}) {
			if err != nil {
				t.Fatal(err)
			}
			told = append(told, e.Text)
		}
		if got := strings.Join(told, ","); got != want {
			t.Errorf("tenant %q is told %q, want %q", tenant, got, want)
		}
	}
}
