package oci

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"sfc/ctrl/functions/sign"
	"sfc/testbed/gate"
)

func TestMain(m *testing.M) { os.Exit(gate.Main(m)) }

// serve runs a registry on loopback; change, if any, sees every answer first.
func serve(t *testing.T, change func(w http.ResponseWriter, r *http.Request) (done bool)) (host string, o Options) {
	t.Helper()
	reg := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if change == nil || !change(w, r) {
			reg.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(srv.Close)
	host = strings.TrimPrefix(srv.URL, "http://")
	return host, Options{PlainHTTP: true, Hosts: []string{host}, MaxModule: 1 << 20, Timeout: 10 * time.Second}
}

func module(t *testing.T) []byte {
	t.Helper()
	wasm, err := os.ReadFile("../../../nf/catalog/firewall/firewall.wasm")
	if err != nil {
		t.Fatal(err)
	}
	return wasm
}

func TestPushAndPull(t *testing.T) {
	host, o := serve(t, nil)
	_, priv, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	subject, err := sign.SubjectOf(module(t))
	if err != nil {
		t.Fatal(err)
	}
	sig, err := sign.Sign(priv, subject)
	if err != nil {
		t.Fatal(err)
	}
	a := Artifact{Module: module(t), Name: "firewall", Version: "1.0.0", Signatures: []sign.Signature{sig}}
	pinned, err := Push(t.Context(), host+"/acme/firewall:1.0.0", &a, o)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := Push(t.Context(), host+"/acme/firewall:prod", &a, o); err != nil || again != pinned {
		t.Errorf("pushed again: %s, not %s: %v", again, pinned, err)
	}
	for _, ref := range []string{host + "/acme/firewall:1.0.0", "oci://" + host + "/acme/firewall:prod", pinned} {
		p, err := Pull(t.Context(), ref, o)
		if err != nil {
			t.Fatal(err)
		}
		if p.Reference != pinned || !bytes.Equal(p.Module, a.Module) || p.Name != a.Name || p.Version != a.Version || len(p.Signatures) != 1 {
			t.Errorf("%s: %s, %d bytes, %s %s, %v", ref, p.Reference, len(p.Module), p.Name, p.Version, p.Signatures)
		}
		if err := p.Signatures[0].Verify(priv.Public().(ed25519.PublicKey), subject); err != nil {
			t.Error(err)
		}
	}
}

// What is in the registry is what other tools for Wasm look for.
func TestLayout(t *testing.T) {
	host, o := serve(t, nil)
	a := Artifact{Module: module(t), Name: "firewall", Version: "1.0.0"}
	if _, err := Push(t.Context(), host+"/firewall:1.0.0", &a, o); err != nil {
		t.Fatal(err)
	}
	get := func(path string, into any) {
		t.Helper()
		resp, err := http.Get("http://" + host + "/v2/firewall/" + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
			t.Fatal(err)
		}
	}
	defer http.DefaultClient.CloseIdleConnections()
	var m ocispec.Manifest
	get("manifests/1.0.0", &m)
	if m.MediaType != "application/vnd.oci.image.manifest.v1+json" || m.Config.MediaType != "application/vnd.wasm.config.v0+json" ||
		len(m.Layers) != 1 || m.Layers[0].MediaType != "application/wasm" || m.Layers[0].Size != int64(len(a.Module)) ||
		m.Annotations["org.opencontainers.image.version"] != "1.0.0" {
		t.Errorf("manifest %+v", m)
	}
	var c map[string]any
	get("blobs/"+m.Config.Digest.String(), &c)
	if c["architecture"] != "wasm" || c["os"] != "wasip1" || fmt.Sprint(c["layerDigests"]) != "["+m.Layers[0].Digest.String()+"]" {
		t.Errorf("config %v", c)
	}
}

// A registry may send what it likes.
func TestHostileRegistry(t *testing.T) {
	wasm := []byte("\x00asm\x01\x00\x00\x00")
	manifest := func(change func(*ocispec.Manifest)) []byte {
		m, _, _, err := pack(&Artifact{Module: wasm})
		if err != nil {
			t.Fatal(err)
		}
		var man ocispec.Manifest
		if err := json.Unmarshal(m.data, &man); err != nil {
			t.Fatal(err)
		}
		change(&man)
		text, err := json.Marshal(man)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	same := func(*ocispec.Manifest) {}
	blobOf := func(b []byte) func(http.ResponseWriter) {
		return func(w http.ResponseWriter) { _, _ = w.Write(b) }
	}
	endless := func(w http.ResponseWriter) {
		for range 1 << 14 {
			if _, err := w.Write(make([]byte, 64<<10)); err != nil {
				return
			}
		}
	}
	for name, tt := range map[string]struct {
		manifest []byte
		typ      string
		blob     func(http.ResponseWriter)
		want     error
	}{
		"good":                  {manifest(same), "", blobOf(wasm), nil},
		"other bytes":           {manifest(same), "", blobOf([]byte("\x00asm\x02\x00\x00\x00")), ErrArtifact},
		"cut short":             {manifest(same), "", blobOf(wasm[:4]), ErrRegistry},
		"too many bytes":        {manifest(same), "", endless, ErrArtifact},
		"announces 1 TiB":       {manifest(func(m *ocispec.Manifest) { m.Layers[0].Size = 1 << 40 }), "", blobOf(wasm), ErrTooLarge},
		"negative size":         {manifest(func(m *ocispec.Manifest) { m.Layers[0].Size = -1 }), "", blobOf(wasm), ErrArtifact},
		"no digest":             {manifest(func(m *ocispec.Manifest) { m.Layers[0].Digest = "" }), "", blobOf(wasm), ErrArtifact},
		"weak digest":           {manifest(func(m *ocispec.Manifest) { m.Layers[0].Digest = "md5:d41d8cd98f00b204e9800998ecf8427e" }), "", blobOf(wasm), ErrArtifact},
		"an image":              {manifest(func(m *ocispec.Manifest) { m.Config.MediaType = ocispec.MediaTypeImageConfig }), "", blobOf(wasm), ErrArtifact},
		"an index":              {manifest(same), ocispec.MediaTypeImageIndex, blobOf(wasm), ErrArtifact},
		"two layers":            {manifest(func(m *ocispec.Manifest) { m.Layers = append(m.Layers, m.Layers[0]) }), "", blobOf(wasm), ErrArtifact},
		"no layer":              {manifest(func(m *ocispec.Manifest) { m.Layers = nil }), "", blobOf(wasm), ErrArtifact},
		"a tar":                 {manifest(func(m *ocispec.Manifest) { m.Layers[0].MediaType = ocispec.MediaTypeImageLayerGzip }), "", blobOf(wasm), ErrArtifact},
		"broken signature":      {manifest(func(m *ocispec.Manifest) { m.Annotations = map[string]string{SignatureAnnotation: "x"} }), "", blobOf(wasm), ErrArtifact},
		"thousands of them":     {manifest(func(m *ocispec.Manifest) { m.Annotations = map[string]string{SignatureAnnotation: many()} }), "", blobOf(wasm), ErrArtifact},
		"no JSON":               {[]byte("hello"), "", blobOf(wasm), ErrArtifact},
		"JSON nested deeply":    {bytes.Repeat([]byte("["), 100_000), "", blobOf(wasm), ErrArtifact},
		"a manifest of 100 MiB": {make([]byte, 100<<20), "", blobOf(wasm), ErrTooLarge},
		"nothing":               {nil, "", blobOf(wasm), ErrRegistry},
	} {
		t.Run(name, func(t *testing.T) {
			host, o := serve(t, func(w http.ResponseWriter, r *http.Request) bool {
				switch {
				case strings.Contains(r.URL.Path, "/manifests/") && tt.manifest == nil:
					http.NotFound(w, r)
				case strings.Contains(r.URL.Path, "/manifests/"):
					w.Header().Set("Content-Type", ocispec.MediaTypeImageManifest)
					if tt.typ != "" {
						w.Header().Set("Content-Type", tt.typ)
					}
					w.Header().Set("Content-Length", strconv.Itoa(len(tt.manifest)))
					w.Header().Set("Docker-Content-Digest", digest.FromBytes(tt.manifest).String())
					_, _ = w.Write(tt.manifest)
				case strings.Contains(r.URL.Path, "/blobs/"):
					tt.blob(w)
				default:
					return false
				}
				return true
			})
			_, err := Pull(t.Context(), host+"/x:1", o)
			if !errors.Is(err, tt.want) {
				t.Errorf("%v, want %v", err, tt.want)
			}
		})
	}
}

func many() string {
	return strings.Repeat(sign.Signature{KeyID: "0123456789abcdef"}.String()+" ", 1000)
}

// A tag may be moved under way: what is pinned is what was read.
func TestDigestIsPinned(t *testing.T) {
	host, o := serve(t, nil)
	wasm := []byte("\x00asm\x01\x00\x00\x00")
	first, err := Push(t.Context(), host+"/x:1", &Artifact{Module: wasm, Version: "1"}, o)
	if err != nil {
		t.Fatal(err)
	}
	second, err := Push(t.Context(), host+"/x:1", &Artifact{Module: wasm, Version: "2"}, o)
	if err != nil || first == second {
		t.Fatal(first, second, err)
	}
	for ref, version := range map[string]string{first: "1", second: "2", host + "/x:1": "2"} {
		if p, err := Pull(t.Context(), ref, o); err != nil || p.Version != version {
			t.Errorf("%s is %s, want %s: %v", ref, p.Version, version, err)
		}
	}
	if _, err := Pull(t.Context(), host+"/x@sha256:"+strings.Repeat("0", 64), o); !errors.Is(err, ErrRegistry) {
		t.Error(err)
	}
	if _, err := Push(t.Context(), first, &Artifact{Module: wasm, Version: "3"}, o); !errors.Is(err, ErrReference) {
		t.Error(err)
	}
}

// Tenants do not reach through a daemon what is on its own networks.
func TestHostsAreGuarded(t *testing.T) {
	asked := false
	host, o := serve(t, func(http.ResponseWriter, *http.Request) bool { asked = true; return false })
	o.Hosts = nil
	if _, err := Pull(t.Context(), host+"/x:1", o); !errors.Is(err, ErrForbidden) || asked {
		t.Errorf("loopback: asked %v, %v", asked, err)
	}
	o.Hosts = []string{"registry.example"}
	if _, err := Push(t.Context(), host+"/x:1", &Artifact{}, o); !errors.Is(err, ErrForbidden) || asked {
		t.Errorf("a host that is not named: asked %v, %v", asked, err)
	}
	// A registry that is named may not send on to others.
	inner := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked = true }))
	defer inner.Close()
	outer, o := serve(t, func(w http.ResponseWriter, r *http.Request) bool {
		http.Redirect(w, r, inner.URL+"/secret", http.StatusTemporaryRedirect)
		return true
	})
	asked = false
	if _, err := Pull(t.Context(), outer+"/x:1", o); !errors.Is(err, ErrForbidden) || asked {
		t.Errorf("redirect: asked %v, %v", asked, err)
	}
	for _, address := range []string{
		"127.0.0.1:443", "[::1]:443", "10.0.0.1:443", "192.168.1.1:80", "172.16.0.1:80", "169.254.169.254:80", "[fe80::1%lo]:80", "[fd00::1]:443",
		"0.0.0.0:80", "[::]:80", "100.64.1.1:443", "198.18.0.1:443", "255.255.255.255:80", "224.0.0.1:80", "[ff02::1]:80", "[::ffff:127.0.0.1]:80", "[64:ff9b::7f00:1]:80", "what",
	} {
		if public(address) == nil {
			t.Errorf("%s is taken for an address of the internet", address)
		}
	}
	for _, address := range []string{"1.1.1.1:443", "[2606:4700::1111]:443"} {
		if err := public(address); err != nil {
			t.Error(err)
		}
	}
}

func TestBadReferences(t *testing.T) {
	for _, ref := range []string{"", "x", "registry.example/x", "registry.example/X:1", "https://registry.example/x:1", "registry.example/x:", "registry.example/../x:1", strings.Repeat("x", 1<<20)} {
		if _, err := Pull(t.Context(), ref, Options{}); !errors.Is(err, ErrReference) || len(err.Error()) > 2000 {
			t.Errorf("%.60q: %.300v", ref, err)
		}
	}
}

// A registry that answers nothing costs no more than the time-out.
func TestSilentRegistry(t *testing.T) {
	gone := make(chan struct{})
	host, o := serve(t, func(_ http.ResponseWriter, r *http.Request) bool {
		select {
		case <-r.Context().Done():
		case <-gone:
		}
		return true
	})
	defer close(gone)
	o.Timeout = 200 * time.Millisecond
	begin := time.Now()
	if _, err := Pull(t.Context(), host+"/x:1", o); !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) > 3*time.Second {
		t.Errorf("%v after %v", err, time.Since(begin))
	}
}

// Names and passwords go to the registry that wants them.
func TestCredentials(t *testing.T) {
	host, o := serve(t, func(w http.ResponseWriter, r *http.Request) bool {
		if name, password, ok := r.BasicAuth(); !ok || name != "me" || password != "secret" {
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			w.WriteHeader(http.StatusUnauthorized)
			return true
		}
		return false
	})
	a := Artifact{Module: []byte("\x00asm\x01\x00\x00\x00")}
	if _, err := Push(t.Context(), host+"/x:1", &a, o); !errors.Is(err, ErrRegistry) {
		t.Errorf("without: %v", err)
	}
	o.Username, o.Password = "me", "wrong"
	if _, err := Push(t.Context(), host+"/x:1", &a, o); !errors.Is(err, ErrRegistry) || strings.Contains(err.Error(), "wrong") {
		t.Errorf("with a wrong one: %v", err)
	}
	o.Password = "secret"
	if _, err := Push(t.Context(), host+"/x:1", &a, o); err != nil {
		t.Error(err)
	}
	if _, err := Pull(t.Context(), host+"/x:1", o); err != nil {
		t.Error(err)
	}
}
