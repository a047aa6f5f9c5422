package server

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"sfc/ctrl/api"
	"sfc/ctrl/client"
)

// Callers who ask too often are told when to come again; root is not.
func TestRates(t *testing.T) {
	w := start(t, t.TempDir(), func(o *Options) { o.Limits.Rate, o.Limits.Burst, o.Limits.Strangers = 20, 5, 1 })
	w.tenant(t, "acme", api.TenantSpec{})
	w.tenant(t, "few", api.TenantSpec{APICalls: 1})
	c := w.as(t, w.token(t, "acme", "v", api.Viewer))
	other := w.as(t, w.token(t, "acme", "w", api.Viewer))
	for range 5 {
		must[*api.Identity](t)(c.Identity(t.Context()))
	}
	_, err := c.Identity(t.Context())
	is(t, err, 429, api.ReasonRate)
	must[*api.Identity](t)(other.Identity(t.Context()))
	time.Sleep(time.Second / 20)
	must[*api.Identity](t)(c.Identity(t.Context()))

	// All tokens of a tenant together have what its quota says.
	one, two := w.as(t, w.token(t, "few", "a", api.Viewer)), w.as(t, w.token(t, "few", "b", api.Viewer))
	must[*api.Identity](t)(one.Identity(t.Context()))
	must[*api.Identity](t)(two.Identity(t.Context()))
	_, err = one.Identity(t.Context())
	is(t, err, 429, api.ReasonRate)

	// Strangers are slowed down, too, and are told how long to wait.
	resp := w.knock(t, 5)
	if resp.StatusCode != 429 || resp.Header.Get("Retry-After") != "1" {
		t.Errorf("%s, Retry-After %q", resp.Status, resp.Header.Get("Retry-After"))
	}
	for range 200 {
		must[*api.Identity](t)(w.root.Identity(t.Context()))
	}
}

// knock asks n times without a token and returns the last answer.
func (w *world) knock(t *testing.T, n int) (last *http.Response) {
	t.Helper()
	c := must[*tls.Conn](t)(tls.Dial("tcp", w.address, w.clientTLS()))
	defer c.Close()
	answers := bufio.NewReader(c)
	for range n {
		fmt.Fprintf(c, "GET /v1/whoami HTTP/1.1\r\nHost: sfcd\r\n\r\n")
		last = must[*http.Response](t)(http.ReadResponse(answers, nil))
		if _, err := io.Copy(io.Discard, last.Body); err != nil {
			t.Fatal(err)
		}
	}
	return last
}

func TestRateOfTime(t *testing.T) {
	r := newRates()
	now := time.Unix(1000, 0)
	for range 10 {
		if wait := r.take("a", 2, 10, now); wait != 0 {
			t.Fatalf("wait %v", wait)
		}
	}
	if wait := r.take("a", 2, 10, now); wait != time.Second/2 {
		t.Errorf("wait %v, want 500ms", wait)
	}
	// The clock goes back: nothing is gained or lost for ever.
	if wait := r.take("a", 2, 10, now.Add(-time.Hour)); wait != time.Second/2 {
		t.Errorf("wait %v after the clock went back", wait)
	}
	if wait := r.take("a", 2, 10, now.Add(time.Hour)); wait != 0 {
		t.Errorf("wait %v an hour later", wait)
	}
	for i := range maxBuckets + 10 {
		r.take(fmt.Sprint(i), 1, 1, now)
	}
	if len(r.buckets) > maxBuckets {
		t.Errorf("%d callers are remembered", len(r.buckets))
	}
}

// Bodies that are too large are refused, those that say so before they come.
func TestBodies(t *testing.T) {
	w := start(t, t.TempDir(), func(o *Options) { o.Limits.Body, o.Limits.Module = 1000, 100_000 })
	w.tenant(t, "acme", api.TenantSpec{})
	w.tenant(t, "small", api.TenantSpec{ModuleBytes: 5000})
	for _, known := range []bool{true, false} {
		var body io.Reader = strings.NewReader(strings.Repeat(" ", 1001))
		if !known {
			body = io.MultiReader(body)
		}
		status, data, _ := w.raw(t, http.MethodPost, "/v1/tenants", "application/json", body)
		if status != 413 || !strings.Contains(string(data), "larger than 1000 bytes") {
			t.Errorf("length known %v: %d %s", known, status, data)
		}
	}
	status, data, _ := w.raw(t, http.MethodPost, "/v1/tenants", "text/plain", strings.NewReader("{}"))
	if status != 415 {
		t.Errorf("%d %s", status, data)
	}
	upload := func(tenant string, size, said int64) error {
		_, err := w.root.Upload(t.Context(), tenant, client.Upload{
			Function: "f", Version: "1.0.0", Module: io.LimitReader(zeros{}, size), Size: said,
		})
		return err
	}
	is(t, upload("acme", 100_001, 100_001), 413, api.ReasonTooLarge)
	is(t, upload("acme", 100_001, -1), 413, api.ReasonTooLarge)
	is(t, upload("small", 5001, 5001), 413, api.ReasonTooLarge)
	is(t, upload("small", 5001, -1), 413, api.ReasonTooLarge)
	if err := upload("small", 5000, -1); err != nil {
		t.Error(err)
	}
	// A gigabyte is refused before it comes: what the client sends is lost.
	var sent counted
	_, err := w.root.Upload(t.Context(), "acme", client.Upload{Function: "g", Version: "1.0.0", Module: io.LimitReader(&sent, 1<<30), Size: 1 << 30})
	if p := (&api.Problem{}); asProblemOf(err, &p) && p.Status != 413 || err == nil {
		t.Errorf("a gigabyte: %v", err)
	}
	if sent > 16<<20 {
		t.Errorf("%d bytes were sent", sent)
	}
	_, err = w.root.Upload(t.Context(), "acme", client.Upload{Function: "f", Version: "1.0.0", Module: strings.NewReader("x"), Size: 1, Digest: digestOf([]byte("y"))})
	is(t, err, 422, api.ReasonRejected)
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// counted gives zeros and counts them.
type counted int64

func (c *counted) Read(p []byte) (int, error) { *c += counted(len(p)); clear(p); return len(p), nil }

// Clients that say nothing, or little, lose their connection, and their place.
func TestSlowClients(t *testing.T) {
	w := start(t, t.TempDir(), func(o *Options) {
		o.Limits.Header, o.Limits.Read, o.Limits.Idle = 100*time.Millisecond, 100*time.Millisecond, 100*time.Millisecond
		o.Limits.Connections = 4
	})
	w.tenant(t, "acme", api.TenantSpec{})
	for name, say := range map[string]string{
		"nothing":     "",
		"half a head": "GET /healthz HTTP/1.1\r\nHost:",
		"no body":     "POST /v1/tenants HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n{",
		"no module":   "PUT /v1/tenants/acme/functions/f/versions/1.0.0 HTTP/1.1\r\nHost: x\r\nContent-Type: application/wasm\r\nContent-Length: 10\r\n\r\n{",
		"one request": "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			begin := time.Now()
			for range 4 {
				for _, dial := range []func() (net.Conn, error){
					func() (net.Conn, error) { return net.Dial("unix", filepath.Join(w.dir, "s")) },
					func() (net.Conn, error) { return net.Dial("tcp", w.address) },
				} {
					c := must[net.Conn](t)(dial())
					defer c.Close()
					if _, err := io.WriteString(c, say); errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) {
						continue // it was cut off already
					} else if err != nil {
						t.Fatal(err)
					}
					if err := c.SetReadDeadline(begin.Add(5 * time.Second)); err != nil {
						t.Fatal(err)
					}
					defer func() {
						if _, err := io.ReadAll(c); errors.Is(err, errTimeout(err)) {
							t.Errorf("it is still connected after %v", time.Since(begin))
						}
					}()
				}
			}
		})
		// Their places are free again.
		begin := time.Now()
		for {
			if _, err := w.root.Health(t.Context()); err == nil {
				break
			} else if time.Since(begin) > 5*time.Second {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
}

// errTimeout is err if it is a time-out, else one that it is not.
func errTimeout(err error) error {
	if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
		return err
	}
	return io.ErrClosedPipe
}

// Heads have a largest size.
func TestLargeHeader(t *testing.T) {
	w := start(t, t.TempDir(), nil)
	c := must[net.Conn](t)(net.Dial("unix", filepath.Join(w.dir, "s")))
	defer c.Close()
	go fmt.Fprintf(c, "GET /healthz HTTP/1.1\r\nHost: x\r\nX: %s\r\n\r\n", strings.Repeat("a", 64<<10))
	resp := must[*http.Response](t)(http.ReadResponse(bufio.NewReader(c), nil))
	if resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Error(resp.Status)
	}
}

// A handler that panics costs its request and nobody else's; the client gets a
// number that the log has, too.
func TestPanic(t *testing.T) {
	w := start(t, t.TempDir(), func(o *Options) {
		o.Metrics = http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("metrics") })
	})
	status, data, header := w.raw(t, http.MethodGet, "/metrics", "", nil)
	var p api.Problem
	if err := json.Unmarshal(data, &p); err != nil || status != 500 || p.RequestID == "" || header.Get("X-Request-Id") != p.RequestID || strings.Contains(string(data), "panic") {
		t.Errorf("%d %s, err %v", status, data, err)
	}
	must[*api.Health](t)(w.root.Health(t.Context()))
}

// Nobody has more streams than allowed, and they are counted down again.
func TestStreams(t *testing.T) {
	w := start(t, t.TempDir(), func(o *Options) { o.Limits.Streams = 2 })
	w.tenant(t, "acme", api.TenantSpec{})
	c := w.as(t, w.token(t, "acme", "v", api.Viewer))
	watch := func(inside func()) (err error) {
		for _, e := range c.Chains("acme").Watch(t.Context(), "") {
			if err = e; err == nil {
				inside()
			}
			break
		}
		return err
	}
	err := watch(func() {
		if err := watch(func() { is(t, watch(func() {}), 429, api.ReasonRate) }); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Error(err)
	}
	for begin := time.Now(); watch(func() {}) != nil; time.Sleep(5 * time.Millisecond) {
		if time.Since(begin) > 5*time.Second {
			t.Fatal("streams that ended still count")
		}
	}
}
