package store

import (
	"strings"
	"testing"
	"unicode/utf8"
)

// Any key is one token of a subject, comes back as it was, and differs from all
// others.
func FuzzNames(f *testing.F) {
	for _, seed := range [][2]string{
		{"chain/edge", "chain=edge"}, {"a.b", "a/b"}, {"*", ">"}, {"", "="}, {"=2E", "."}, {"$KV.desired.x", "a b"},
		{"ü/\x00\r\n", "\xff"}, {strings.Repeat("é", 600), "CASE"}, {"case", "..\\..//"}, {"=2e", "=2F"},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		for _, slash := range []bool{false, true} {
			ea, eb := escape(a, slash), escape(b, slash)
			if (a == b) != (ea == eb) {
				t.Errorf("%q and %q become %q and %q", a, b, ea, eb)
			}
			if strings.ContainsAny(ea, ".*> \t\r\n\x00") || !slash && strings.Contains(ea, "/") {
				t.Errorf("%q becomes %q", a, ea)
			}
			back, ok := unescape(ea, slash)
			if !ok || back != a {
				t.Errorf("%q becomes %q, which becomes %q, %v", a, ea, back, ok)
			}
			// What is not written by escape is not taken for a name.
			if name, ok := unescape(a, slash); ok && escape(name, slash) != a {
				t.Errorf("%q is taken for %q, which is written %q", a, name, escape(name, slash))
			}
		}
		if err := checkKey(a); err == nil && (a == "" || len(a) > MaxKey || !utf8.ValidString(a)) {
			t.Errorf("key %q is allowed", a)
		}
		if err := checkSpace(a); err == nil && len(tenantPrefix)+len(escape(a, false)) > 255 {
			t.Errorf("space %q is allowed, and no name of a directory", a)
		}
	})
}

// Keys of all kinds, through the server and back, and after a restart.
func TestOddKeys(t *testing.T) {
	dir := t.TempDir()
	keys := []string{
		".", "..", "*", ">", "a.b", "a.*", "a.>", "=", "=2E", " ", "\t", "\x00", "\r\n+OK\r\n", "$KV.other.x", "/", "//", "a/",
		"ü", "日本", strings.Repeat("日", MaxKey/3), "A", "a", "PUB x 0", "\u202e", "{}", `"`, "%s",
	}
	s := open(t, dir, Options{})
	b := bucket(t, tenant(t, s, "../../etc", Limits{}), "desired")
	for _, k := range keys {
		must[uint64](t)(b.Create(t.Context(), k, []byte(k)))
	}
	shut(t, s)
	s = open(t, dir, Options{})
	if names := must[[]string](t)(s.Tenants()); len(names) != 1 || names[0] != "../../etc" {
		t.Errorf("tenants %q", names)
	}
	b = bucket(t, tenant(t, s, "../../etc", Limits{}), "desired")
	for _, k := range keys {
		e := must[Entry](t)(b.Get(k))
		if string(e.Value) != k {
			t.Errorf("%q holds %q", k, e.Value)
		}
		must[uint64](t)(b.Delete(t.Context(), k, e.Revision))
	}
	if p := must[Page](t)(b.List("", 0, "")); len(p.Entries) != 0 {
		t.Errorf("%d keys are left", len(p.Entries))
	}
}
