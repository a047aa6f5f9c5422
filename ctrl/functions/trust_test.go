package functions

import (
	"crypto/ed25519"
	"errors"
	"strings"
	"testing"

	"sfc/ctrl/api"
	"sfc/ctrl/functions/sign"
	"sfc/ctrl/store"
)

// keyPair makes a key.
func keyPair(tb testing.TB) (ed25519.PublicKey, ed25519.PrivateKey) {
	tb.Helper()
	pub, priv, err := ed25519.GenerateKey(nil)
	if err != nil {
		tb.Fatal(err)
	}
	return pub, priv
}

func signed(tb testing.TB, priv ed25519.PrivateKey, wasm []byte) *sign.Signature {
	tb.Helper()
	sig := must[sign.Signature](tb)(sign.Sign(priv, must[sign.Subject](tb)(sign.SubjectOf(wasm))))
	return &sig
}

func TestSignedUploads(t *testing.T) {
	s, _ := fixture(t)
	pub, priv := keyPair(t)
	_, stranger := keyPair(t)
	must[*api.Key](t)(s.AddKey(t.Context(), "ci", pub))
	wasm, other := built(t, "1.0.0", 0), built(t, "1.1.0", 0)
	strict := Policy{RequireSigned: true}
	for name, sig := range map[string]*sign.Signature{"none": nil, "a stranger's": signed(t, stranger, wasm), "another module's": signed(t, priv, other)} {
		u := upload(wasm)
		u.Signature = sig
		_, _, err := s.Put(t.Context(), u, strict)
		if !errors.Is(err, ErrUntrusted) {
			t.Errorf("%s: %v", name, err)
		}
		if sig == nil {
			continue
		}
		u.Module = strings.NewReader(string(wasm))
		if _, _, err := s.Put(t.Context(), u, Policy{}); !errors.Is(err, ErrUntrusted) {
			t.Errorf("%s, not required: %v", name, err)
		}
	}
	nothing(t, s)
	// A signature that does not say whose it is: all keys are tried.
	u := upload(wasm)
	u.Signature = signed(t, stranger, wasm)
	u.Signature.KeyID = ""
	_, _, err := s.Put(t.Context(), u, strict)
	is(t, err, ErrUntrusted)
	u = upload(wasm)
	u.Signature = signed(t, priv, wasm)
	whose := u.Signature.KeyID
	u.Signature.KeyID = ""
	f, _, err := s.Put(t.Context(), u, strict)
	u.Signature.KeyID = whose
	if err != nil {
		t.Fatal(err)
	}
	if sig, ok := s.Signature(f); !ok || sig != *u.Signature {
		t.Errorf("the signature came back as %v, %v", sig, ok)
	}

	// Trust ends with the key, for everything that it signed.
	index := NewIndex()
	index.SetVersion("hop/1.0.0", f)
	is(t, index.Trust(f), ErrUntrusted)
	index.SetKey("ci", must[[]*api.Key](t)(s.Keys())[0])
	if err := index.Trust(f); err != nil {
		t.Error(err)
	}
	forged := *f
	forged.Spec.Digest = "sha256:" + hexSum(other)
	is(t, index.Trust(&forged), ErrUntrusted)
	broken := *f
	broken.Spec.ManifestDigest = "sha256:12"
	is(t, index.Trust(&broken), store.ErrDamaged)
	if err := s.RevokeKey(t.Context(), "ci", ""); err != nil {
		t.Fatal(err)
	}
	index.SetKey("ci", nil)
	if err := index.Trust(f); !errors.Is(err, ErrUntrusted) || !strings.Contains(err.Error(), "revoked") {
		t.Error(err)
	}
	u = upload(other)
	u.Signature = signed(t, priv, other)
	_, _, err = s.Put(t.Context(), u, strict)
	is(t, err, ErrUntrusted)
	if _, ok := s.Signature(f); ok {
		t.Error("a signature of a revoked key was given out")
	}
	// Another key under the same name does not inherit the trust.
	pub2, _ := keyPair(t)
	index.SetKey("ci", must[*api.Key](t)(s.AddKey(t.Context(), "ci", pub2)))
	is(t, index.Trust(f), ErrUntrusted)
}

func TestCountersign(t *testing.T) {
	s, _ := fixture(t)
	pub, priv := keyPair(t)
	must[*api.Key](t)(s.AddKey(t.Context(), "ci", pub))
	wasm := built(t, "1.0.0", 0)
	deploy(t, s, "1.0.0")
	u := upload(wasm)
	u.Signature = signed(t, priv, wasm)
	f, created, err := s.Put(t.Context(), u, Policy{RequireSigned: true})
	if err != nil || created || f.Spec.Signature == nil || f.Spec.Signature.Key != "ci" {
		t.Errorf("created %v, %+v, %v", created, f, err)
	}
	if got := must[*api.Function](t)(s.Get("hop", "1.0.0")); got.Spec.Signature == nil || got.Metadata.ResourceVersion != f.Metadata.ResourceVersion {
		t.Errorf("stored: %+v", got)
	}
}

func TestKeys(t *testing.T) {
	s, _ := fixture(t)
	pub, _ := keyPair(t)
	k := must[*api.Key](t)(s.AddKey(t.Context(), "ci", pub))
	if again := must[*api.Key](t)(s.AddKey(t.Context(), "ci", pub)); again.Metadata.UID != k.Metadata.UID {
		t.Error("added twice")
	}
	other, _ := keyPair(t)
	for name, try := range map[string]error{
		"same name": second(s.AddKey(t.Context(), "ci", other)), "same key": second(s.AddKey(t.Context(), "cd", pub)),
	} {
		if !errors.Is(try, store.ErrExists) {
			t.Errorf("%s: %v", name, try)
		}
	}
	is(t, second(s.AddKey(t.Context(), "CI", other)), ErrName)
	is(t, second(s.AddKey(t.Context(), "short", other[:5])), sign.ErrKey)
	is(t, s.RevokeKey(t.Context(), "ci", "99999"), store.ErrConflict)
	is(t, s.RevokeKey(t.Context(), "nobody", ""), store.ErrNotFound)
	for i := 1; i < MaxKeys; i++ {
		p, _ := keyPair(t)
		must[*api.Key](t)(s.AddKey(t.Context(), "k"+strings.Repeat("x", i%50)+string(rune('a'+i/50)), p))
	}
	is(t, second(s.AddKey(t.Context(), "more", other)), store.ErrQuota)
	if err := s.RevokeKey(t.Context(), "ci", k.Metadata.ResourceVersion); err != nil {
		t.Error(err)
	}
}

func second[T any](_ T, err error) error { return err }
