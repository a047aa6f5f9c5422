package functions

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"sfc/ctrl/api"
	"sfc/ctrl/store"
	"sfc/nf"
	"sfc/testbed/gate"
)

func TestMain(m *testing.M) { os.Exit(gate.Main(m)) }

func must[T any](tb testing.TB) func(T, error) T {
	tb.Helper()
	return func(v T, err error) T {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
		return v
	}
}

// is fails unless err is one of those wanted.
func is(tb testing.TB, err error, want ...error) {
	tb.Helper()
	for _, w := range want {
		if !errors.Is(err, w) {
			tb.Errorf("error %v, want %v", err, w)
		}
	}
}

func openDir(tb testing.TB, dir string) *store.Store {
	tb.Helper()
	s := must[*store.Store](tb)(store.Open(context.Background(), dir, store.Options{}))
	tb.Cleanup(func() {
		if err := s.Close(context.Background()); err != nil {
			tb.Error(err)
		}
	})
	return s
}

// fixture is a tenant's functions in a store of their own, whose clock goes on
// by a second with each look.
func fixture(tb testing.TB) (*Store, *store.Space) {
	tb.Helper()
	sp := must[*store.Space](tb)(openDir(tb, tb.TempDir()).Tenant(context.Background(), "acme", store.Limits{}))
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	opts := Options{Spool: tb.TempDir(), Now: func() time.Time { now = now.Add(time.Second); return now }}
	return must[*Store](tb)(Open(context.Background(), sp, opts)), sp
}

// built returns the catalogue's function hop under another version, with extra
// bytes in a custom section.
func built(tb testing.TB, version string, extra int) []byte {
	tb.Helper()
	wasm := must[[]byte](tb)(os.ReadFile("../../nf/catalog/hop/hop.wasm"))
	m := must[*nf.Module](tb)(nf.Inspect(wasm))
	fields := map[string]any{}
	if err := json.Unmarshal(m.Manifest, &fields); err != nil {
		tb.Fatal(err)
	}
	fields["version"] = version
	manifest := must[[]byte](tb)(json.Marshal(fields))
	wasm = must[[]byte](tb)(nf.AppendManifest(wasm, manifest))
	if extra > 0 {
		wasm = append(wasm, section(0, append([]byte{3, 'p', 'a', 'd'}, bytes.Repeat([]byte{0xee}, extra)...))...)
	}
	return wasm
}

// section writes a section of the binary format.
func section(id byte, body []byte) []byte {
	return append(binary.AppendUvarint([]byte{id}, uint64(len(body))), body...)
}

func upload(wasm []byte) Upload {
	return Upload{Module: bytes.NewReader(wasm), By: "tester", Source: "a test"}
}

// deploy puts versions that differ in nothing but their number.
func deploy(tb testing.TB, s *Store, versions ...string) []*api.Function {
	tb.Helper()
	var all []*api.Function
	for _, v := range versions {
		f, created, err := s.Put(tb.Context(), upload(built(tb, v, 0)), Policy{})
		if err != nil || !created {
			tb.Fatalf("put %s: created %v, %v", v, created, err)
		}
		all = append(all, f)
	}
	return all
}

// nothing fails if anything is stored.
func nothing(tb testing.TB, s *Store) {
	tb.Helper()
	if all := must[[]*api.Function](tb)(s.List("")); len(all) > 0 {
		tb.Errorf("%d versions are stored", len(all))
	}
	if all := must[[]store.Module](tb)(s.modules.List(tb.Context())); len(all) > 0 {
		tb.Errorf("%d modules are stored", len(all))
	}
}

func TestPutAndGet(t *testing.T) {
	s, _ := fixture(t)
	for _, extra := range []int{0, inMemory} { // one in memory, one through a file
		wasm := built(t, "1.2.0", extra)
		u := upload(wasm)
		u.Version = map[int]string{0: "1.2.0", inMemory: "1.2.0-pad"}[extra]
		f, created, err := s.Put(t.Context(), u, Policy{})
		if err != nil || !created {
			t.Fatalf("created %v, %v", created, err)
		}
		got := must[*api.Function](t)(s.Get("hop", u.Version))
		if got.Spec.Digest != "sha256:"+hexSum(wasm) || got.Spec.Size != int64(len(wasm)) || got.Spec.Manifest.Version != "1.2.0" ||
			got.Metadata.UID == "" || got.Metadata.ResourceVersion != f.Metadata.ResourceVersion || got.Metadata.Tenant != "acme" {
			t.Errorf("stored %+v", got)
		}
		if p := got.Spec.Provenance; p.UploadedBy != "tester" || p.Source != "a test" || p.UploadedAt.IsZero() {
			t.Errorf("provenance %+v", p)
		}
		r, size, err := s.Open(t.Context(), got.Spec.Digest)
		if err != nil || size != int64(len(wasm)) {
			t.Fatal(size, err)
		}
		if back := must[[]byte](t)(io.ReadAll(r)); !bytes.Equal(back, wasm) {
			t.Error("other bytes came back")
		}
	}
}

func TestVersionsAreImmutable(t *testing.T) {
	s, _ := fixture(t)
	first := deploy(t, s, "1.0.0")[0]
	again, created, err := s.Put(t.Context(), upload(built(t, "1.0.0", 0)), Policy{})
	if err != nil || created || again.Metadata.UID != first.Metadata.UID {
		t.Errorf("the same again: created %v, %v", created, err)
	}
	_, _, err = s.Put(t.Context(), upload(built(t, "1.0.0", 1)), Policy{})
	is(t, err, ErrImmutable)
	if n := len(must[[]store.Module](t)(s.modules.List(t.Context()))); n != 1 {
		t.Errorf("%d modules are stored", n)
	}
}

// What is refused leaves nothing behind.
func TestRefused(t *testing.T) {
	s, _ := fixture(t)
	good := built(t, "1.0.0", 0)
	for name, tt := range map[string]struct {
		change func(*Upload)
		p      Policy
		want   error
	}{
		"name":          {func(u *Upload) { u.Name = "Hop" }, Policy{}, ErrName},
		"version":       {func(u *Upload) { u.Version = "v1" }, Policy{}, ErrName},
		"other name":    {func(u *Upload) { u.Name = "pop" }, Policy{}, ErrRejected},
		"digest":        {func(u *Upload) { u.Digest = "sha256:00" }, Policy{}, store.ErrDigest},
		"unsigned":      {func(*Upload) {}, Policy{RequireSigned: true}, ErrUntrusted},
		"other version": {func(u *Upload) { u.Version = "2.0.0" }, Policy{RequireSigned: true}, ErrRejected},
		"empty":         {func(u *Upload) { u.Module = strings.NewReader("") }, Policy{}, ErrRejected},
		"text":          {func(u *Upload) { u.Module = strings.NewReader("(module)") }, Policy{}, nf.ErrNotWasm},
		"cut short":     {func(u *Upload) { u.Module = bytes.NewReader(good[:len(good)/2]) }, Policy{}, nf.ErrMalformed},
		"broken":        {func(u *Upload) { u.Module = io.MultiReader(bytes.NewReader(good), brokenReader{}) }, Policy{}, errBroken},
		"broken, large": {func(u *Upload) { u.Module = io.MultiReader(bytes.NewReader(make([]byte, 1<<20)), brokenReader{}) }, Policy{}, errBroken},
		"bytes":         {func(*Upload) {}, Policy{Bytes: int64(len(good)) - 1}, store.ErrQuota},
	} {
		u := upload(good)
		tt.change(&u)
		_, created, err := s.Put(t.Context(), u, tt.p)
		if created || !errors.Is(err, tt.want) {
			t.Errorf("%s: created %v, %v", name, created, err)
		}
	}
	nothing(t, s)
	if left := must[[]os.DirEntry](t)(os.ReadDir(s.opts.Spool)); len(left) > 0 {
		t.Errorf("%d files are left", len(left))
	}
}

var errBroken = errors.New("connection lost")

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, errBroken }

func TestLimits(t *testing.T) {
	s, _ := fixture(t)
	p := Policy{Versions: 2}
	for _, v := range []string{"1.0.0", "1.1.0"} {
		if _, _, err := s.Put(t.Context(), upload(built(t, v, 0)), p); err != nil {
			t.Fatal(err)
		}
	}
	_, _, err := s.Put(t.Context(), upload(built(t, "1.2.0", 0)), p)
	is(t, err, store.ErrQuota)
	if !strings.Contains(err.Error(), "acme has 2 of 2 versions") {
		t.Error(err)
	}
	// What is there may be put again, and the same content counts once.
	if _, _, err := s.Put(t.Context(), upload(built(t, "1.1.0", 0)), p); err != nil {
		t.Error(err)
	}
	u := upload(built(t, "1.1.0", 0))
	u.Version = "1.1.1"
	var sum int64
	for _, f := range must[[]*api.Function](t)(s.List("")) {
		sum += f.Spec.Size
	}
	if _, _, err := s.Put(t.Context(), u, Policy{Bytes: sum}); err != nil {
		t.Error(err)
	}
}

func TestResolve(t *testing.T) {
	s, _ := fixture(t)
	all := deploy(t, s, "1.0.0", "1.1.0", "2.0.0-rc.1")
	must[*api.Alias](t)(s.MoveAlias(t.Context(), "hop", "prod", Target{Version: "1.0.0"}, "", "me"))
	must[*api.Alias](t)(s.MoveAlias(t.Context(), "hop", "prod", Target{Version: "1.1.0", Percent: 10}, "", "me"))
	must[*api.Alias](t)(s.MoveAlias(t.Context(), "hop", "latest", Target{Version: "2.0.0-rc.1"}, "", "me"))
	index := NewIndex()
	for _, f := range all {
		index.SetVersion("hop/"+f.Spec.Version, f)
	}
	for _, a := range must[[]*api.Alias](t)(s.Aliases("")) {
		index.SetAlias(a.Spec.Function+"/"+a.Metadata.Name, a)
	}
	for ref, want := range map[string]string{
		"hop@1.0.0": "1.0.0", "hop@prod": "1.0.0 10% 1.1.0", "hop": "bad name", "hop@latest": "2.0.0-rc.1",
		all[1].Spec.Digest: "1.1.0", "hop@9.9.9": "not found", "pop": "bad name", "pop@1.0.0": "not found",
		"sha256:" + strings.Repeat("0", 64): "not found", "sha256:00": "bad name", "hop@": "bad name", "Hop": "bad name",
		"hop@1.0": "bad name", "": "bad name", "hop@../x": "bad name", "hop@prod@1": "bad name",
	} {
		for who, f := range map[string]func(string) (Resolution, error){"store": s.Resolve, "index": index.Resolve} {
			res, err := f(ref)
			got := ""
			switch {
			case errors.Is(err, store.ErrNotFound):
				got = "not found"
			case errors.Is(err, ErrName):
				got = "bad name"
			case err != nil:
				t.Error(err)
			default:
				got = res.Function.Spec.Version
				if res.Canary != nil {
					got += " 10% " + res.Canary.Spec.Version
				}
			}
			if got != want {
				t.Errorf("%s: %q is %q, want %q", who, ref, got, want)
			}
		}
	}
}

func TestParseAssignment(t *testing.T) {
	for text, want := range map[string]string{
		"prod=1.2.0": "prod 1.2.0 0", "prod=1.3.0@10%": "prod 1.3.0 10", "a=1.0.0-x.1@99%": "a 1.0.0-x.1 99",
		"prod": "", "prod=": "", "=1.0.0": "", "prod=1.0.0@": "", "prod=1.0.0@10": "", "prod=1.0.0@0%": "", "prod=1.0.0@100%": "",
		"prod=1.0.0@-5%": "", "prod=1.0.0@1.5%": "", "prod=v1": "", "PROD=1.0.0": "",
	} {
		alias, target, err := ParseAssignment(text)
		got := ""
		if err == nil {
			got = strings.TrimSpace(strings.Join([]string{alias, target.Version, string(must[[]byte](t)(json.Marshal(target.Percent)))}, " "))
		}
		if got != want {
			t.Errorf("%q is %q, want %q: %v", text, got, want, err)
		}
	}
}

func FuzzParseRef(f *testing.F) {
	for _, s := range []string{"a@1.0.0", "a", "a@b", "sha256:" + strings.Repeat("0", 64)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, err := ParseRef(text)
		if err != nil {
			return
		}
		again, err := ParseRef(r.String())
		if err != nil || again != r {
			t.Errorf("%q is %+v, and %q is %+v: %v", text, r, r.String(), again, err)
		}
	})
}
