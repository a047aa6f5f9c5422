package sign

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"sfc/nf"
)

// module is the smallest with a manifest section.
func module(t *testing.T, manifest string) []byte {
	t.Helper()
	wasm, err := nf.AppendManifest([]byte("\x00asm\x01\x00\x00\x00"), []byte(manifest))
	if err != nil {
		t.Fatal(err)
	}
	return wasm
}

func TestSignature(t *testing.T) {
	private, public, err := GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	priv, err := ParsePrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	pub, err := ParsePublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	s, err := SubjectOf(module(t, `{"name": "a"}`))
	if err != nil {
		t.Fatal(err)
	}
	sig, err := Sign(priv, s)
	if err != nil {
		t.Fatal(err)
	}
	if err := sig.Verify(pub, s); err != nil {
		t.Fatal(err)
	}
	var again struct{ S Signature }
	text, err := json.Marshal(struct{ S Signature }{sig})
	if err == nil {
		err = json.Unmarshal(text, &again)
	}
	if err != nil || again.S != sig {
		t.Errorf("%s came back as %v: %v", text, again.S, err)
	}

	// Any bit that differs is noticed, in the module, its manifest or the
	// signature; so are another key, and another message of the same key.
	other, err := SubjectOf(module(t, `{"name": "b"}`))
	if err != nil {
		t.Fatal(err)
	}
	for name, subject := range map[string]Subject{"other": other, "module": {other.Module, s.Manifest}, "manifest": {s.Module, other.Manifest}, "swapped": {s.Manifest, s.Module}} {
		if err := sig.Verify(pub, subject); !errors.Is(err, ErrSignature) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for i := range sig.Bytes {
		flipped := sig
		flipped.Bytes[i] ^= 1
		if err := flipped.Verify(pub, s); !errors.Is(err, ErrSignature) {
			t.Errorf("byte %d: %v", i, err)
		}
	}
	_, public2, err := GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	pub2, err := ParsePublicKey(public2)
	if err != nil {
		t.Fatal(err)
	}
	claimed := sig
	claimed.KeyID = KeyID(pub2)
	if sig.Verify(pub2, s) == nil || claimed.Verify(pub2, s) == nil || sig.Verify(pub2[:5], s) == nil {
		t.Error("verified by another key")
	}
	raw := Signature{KeyID: sig.KeyID}
	signed, err := priv.Sign(rand.Reader, s.Module[:], &ed25519.Options{})
	if err != nil {
		t.Fatal(err)
	}
	copy(raw.Bytes[:], signed)
	if raw.Verify(pub, s) == nil {
		t.Error("a signature of the bare digest was taken")
	}
}

func TestSubjectNeedsManifest(t *testing.T) {
	if _, err := SubjectOf([]byte("\x00asm\x01\x00\x00\x00")); !errors.Is(err, nf.ErrManifest) {
		t.Errorf("no manifest: %v", err)
	}
	if _, err := SubjectOf([]byte("hello")); !errors.Is(err, nf.ErrNotWasm) {
		t.Errorf("no module: %v", err)
	}
}

func TestParse(t *testing.T) {
	good := Signature{KeyID: "0123456789abcdef"}.String()
	if _, err := Parse(" " + good + "\n"); err != nil {
		t.Error(err)
	}
	for _, bad := range []string{
		"", "ed25519", "rsa" + good[7:], good + ":", good[:len(good)-4], strings.Replace(good, "abcdef", "ABCDEF", 1),
		strings.Replace(good, "0123", "01", 1), strings.Replace(good, "AAAA", "AA!A", 1), "ed25519:0123456789abcdef:" + strings.Repeat("A", 1<<20),
	} {
		if _, err := Parse(bad); !errors.Is(err, ErrSignature) || len(err.Error()) > 400 {
			t.Errorf("%.60q: %v", bad, err)
		}
	}
}

func TestKeyFiles(t *testing.T) {
	private, public, err := GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ecPrivate, err := x509.MarshalPKCS8PrivateKey(ec)
	if err != nil {
		t.Fatal(err)
	}
	ecPublic, err := x509.MarshalPKIXPublicKey(&ec.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	block := func(kind string, b []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}) }
	for _, tt := range []struct {
		name, want  string
		public, any []byte
	}{
		{"empty", "no PEM block", nil, nil},
		{"text", "no PEM block", []byte("hello"), []byte("hello")},
		{"changed over", "", private, public},
		{"elliptic curve", "ed25519", block(pemPublic, ecPublic), block(pemPrivate, ecPrivate)},
		{"broken", "asn1", block(pemPublic, []byte{1, 2}), block(pemPrivate, []byte{1, 2})},
		{"large", "at most", bytes.Repeat(public, 1000), bytes.Repeat(private, 1000)},
		{"certificate", "CERTIFICATE", block("CERTIFICATE", ecPublic), block("CERTIFICATE", ecPrivate)},
	} {
		_, err := ParsePublicKey(tt.public)
		if !errors.Is(err, ErrKey) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s, public: %v", tt.name, err)
		}
		_, err = ParsePrivateKey(tt.any)
		if !errors.Is(err, ErrKey) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s, private: %v", tt.name, err)
		}
	}
}

// What OpenSSL makes is read, and what is made here OpenSSL reads.
func TestOpenSSL(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("openssl is not installed")
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "key.pem")
	if out, err := exec.Command(openssl, "genpkey", "-algorithm", "ed25519", "-out", file).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	pub, err := exec.Command(openssl, "pkey", "-in", file, "-pubout").Output()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	priv, err := ParsePrivateKey(text)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ParsePublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	subject := Subject{Module: sha256.Sum256([]byte("m"))}
	sig, err := Sign(priv, subject)
	if err != nil || sig.Verify(key, subject) != nil {
		t.Errorf("keys of OpenSSL do not go together: %v", err)
	}
	private, _, err := GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, private, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(openssl, "pkey", "-in", file, "-noout").CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(Signature{KeyID: "0123456789abcdef"}.String())
	f.Fuzz(func(t *testing.T, text string) {
		sig, err := Parse(text)
		if err != nil {
			return
		}
		if sig.String() != strings.TrimSpace(text) {
			t.Errorf("%q became %q", text, sig)
		}
	})
}
