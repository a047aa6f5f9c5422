package client

import (
	"errors"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sfc/ctrl/api"
)

func TestAddresses(t *testing.T) {
	for server, want := range map[string]string{
		"unix:///run/s": "", "https://host:1": "token is needed", "http://host": "unix:///PATH or https", "/run/s": "unix:///PATH or https",
		"unix://run/s": "unix:///PATH or https", "https://": "unix:///PATH or https", "https://host/v1": "unix:///PATH or https", ":": "missing protocol",
	} {
		_, err := New(server, Options{})
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", server, err, want)
		}
	}
	if _, err := New("https://host:1", Options{Token: "x", CAs: []byte("none")}); err == nil {
		t.Error("no certificate was taken for one")
	}
	env := map[string]string{"SFC_SERVER": "https://host:1", "SFC_TOKEN": "x"}
	c, err := FromEnvironment("", func(k string) string { return env[k] }, Options{})
	if err != nil || c.base.Host != "host:1" || c.opts.Token != "x" {
		t.Errorf("%+v, err %v", c, err)
	}
	env["SFC_CA_FILE"] = filepath.Join(t.TempDir(), "none")
	if _, err = FromEnvironment("", func(k string) string { return env[k] }, Options{}); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if c, err = FromEnvironment("", func(string) string { return "" }, Options{}); err != nil || c.base.Host != "sfcd" {
		t.Errorf("%+v, err %v", c, err)
	}
	c, err = New("unix://"+filepath.Join(t.TempDir(), "none"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err = c.Health(t.Context()); err == nil || !strings.Contains(err.Error(), "is the daemon running?") {
		t.Error(err)
	}
}

// at is a client of a test's server.
func at(t *testing.T, h http.HandlerFunc) *Client {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	return &Client{base: u, http: s.Client(), opts: Options{Timeout: 200 * time.Millisecond, UserAgent: "test"}}
}

// Whatever answers, an error says so: a problem as one, a proxy's page as well,
// and an answer that is none.
func TestAnswers(t *testing.T) {
	for _, tt := range []struct {
		status      int
		media, body string
		want        string
	}{
		{404, api.ProblemType, `{"title":"Not Found","status":404,"reason":"NotFound","detail":"gone"}`, "NotFound"},
		{502, "text/html", "<html>bad gateway</html>", "bad gateway"},
		{404, api.ProblemType, "{", "not found"},
		{200, "application/json", "{", "unexpected EOF"},
		{301, "text/html", "", "moved permanently"},
	} {
		c := at(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", tt.media)
			w.WriteHeader(tt.status)
			if _, err := w.Write([]byte(tt.body)); err != nil {
				t.Error(err)
			}
		})
		_, err := c.Identity(t.Context())
		p, _ := errors.AsType[*api.Problem](err)
		if err == nil || !strings.Contains(err.Error(), tt.want) && (p == nil || p.Reason != tt.want) || tt.status != 200 && (p == nil || p.Status != tt.status) {
			t.Errorf("%d %s: %v, want %s", tt.status, tt.body, err, tt.want)
		}
	}
	hangs := at(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	if _, err := hangs.Identity(t.Context()); err == nil || !strings.Contains(err.Error(), "deadline") {
		t.Errorf("from a server that hangs: %v", err)
	}
}

// Names cannot lead anywhere else.
func TestNamesAreEscaped(t *testing.T) {
	var path string
	c := at(t, func(w http.ResponseWriter, r *http.Request) {
		path = r.URL.EscapedPath()
		w.WriteHeader(http.StatusNoContent)
	})
	if err := c.Chains("a/b").Delete(t.Context(), "c?d#e%2f", ""); err != nil {
		t.Fatal(err)
	}
	if want := "/v1/tenants/a%2Fb/chains/c%3Fd%23e%252f"; path != want {
		t.Errorf("%s, want %s", path, want)
	}
	for _, name := range []string{"", ".", ".."} {
		if err := c.Chains("acme").Delete(t.Context(), name, ""); err == nil {
			t.Errorf("%q was sent", name)
		}
	}
}

// Streams end with their answer; a line that is broken is an error.
func TestStreams(t *testing.T) {
	c := at(t, func(w http.ResponseWriter, r *http.Request) {
		body := "{\"seq\":1}\n\n{\"seq\":2}\n"
		if r.URL.Query().Get("kind") == "broken" {
			body = "{\"seq\":1}\n{\"seq\":"
		}
		if _, err := w.Write([]byte(body)); err != nil {
			t.Error(err)
		}
	})
	for kind, want := range map[string]int{"": 2, "broken": 1} {
		n, failed := 0, false
		for e, err := range c.Events(t.Context(), "", EventQuery{Kind: kind}) {
			if failed = err != nil; failed {
				break
			}
			if n++; e.Seq != uint64(n) {
				t.Errorf("event %d has number %d", n, e.Seq)
			}
		}
		if n != want || failed != (kind != "") {
			t.Errorf("%q: %d events, failed %v", kind, n, failed)
		}
	}
}
