// Package sign says who stands behind a module: ed25519 signatures (RFC 8032)
// over its digest and that of its manifest.
//
// What is signed is no file but a short message of its own, so that a signature
// of this project can never be taken for one of something else, nor the other
// way round:
//
//	"sfc function signature, version 1\n" sha256(module) sha256(manifest)
//
// The manifest is in the module, and names the function and its version. That
// its digest is there a second time lets a signature be checked where only the
// digests are kept.
//
// Keys are files as OpenSSL writes them (openssl genpkey -algorithm ed25519):
// PKCS #8 for private ones (RFC 5958, 8410), SubjectPublicKeyInfo for public
// ones (RFC 5280, 8410), both in PEM.
package sign

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"sfc/nf"
)

// Errors of this package.
var (
	// ErrSignature says that a signature is not one, or not of this module.
	ErrSignature = errors.New("bad signature")
	// ErrKey says that a key cannot be read or is of another kind.
	ErrKey = errors.New("bad key")
)

// domain begins every signed message.
const domain = "sfc function signature, version 1\n"

// Subject is what a signature speaks of.
type Subject struct {
	Module   [sha256.Size]byte // of all bytes
	Manifest [sha256.Size]byte // of the manifest section's
}

// SubjectOf returns what is to be signed of a module. The error is that of
// [nf.Inspect], or says that there is no manifest.
func SubjectOf(wasm []byte) (Subject, error) {
	m, err := nf.Inspect(wasm)
	if err != nil {
		return Subject{}, err
	}
	if m.Manifest == nil {
		return Subject{}, fmt.Errorf("sign: %w: the module has none: build it with sfcctl nf build", nf.ErrManifest)
	}
	return Subject{Module: sha256.Sum256(wasm), Manifest: sha256.Sum256(m.Manifest)}, nil
}

// message returns what is signed.
func (s Subject) message() []byte {
	b := make([]byte, 0, len(domain)+2*sha256.Size)
	b = append(b, domain...)
	b = append(b, s.Module[:]...)
	return append(b, s.Manifest[:]...)
}

// Signature is one key's word for a module. As text it is one line,
// "ed25519:<key id>:<base64>", in files, annotations and headers.
type Signature struct {
	KeyID string // see [KeyID]
	Bytes [ed25519.SignatureSize]byte
}

// Sign signs a subject.
func Sign(key ed25519.PrivateKey, s Subject) (Signature, error) {
	if len(key) != ed25519.PrivateKeySize {
		return Signature{}, fmt.Errorf("sign: %w: it has %d bytes", ErrKey, len(key))
	}
	sig := Signature{KeyID: KeyID(key.Public().(ed25519.PublicKey))}
	copy(sig.Bytes[:], ed25519.Sign(key, s.message()))
	return sig, nil
}

// Verify says whether a key signed a subject.
func (sig Signature) Verify(key ed25519.PublicKey, s Subject) error {
	switch {
	case len(key) != ed25519.PublicKeySize:
		return fmt.Errorf("verify: %w: it has %d bytes", ErrKey, len(key))
	case KeyID(key) != sig.KeyID:
		return fmt.Errorf("%w: it is of key %s, not %s", ErrSignature, sig.KeyID, KeyID(key))
	case !ed25519.Verify(key, s.message(), sig.Bytes[:]):
		return fmt.Errorf("%w: key %s did not sign this module: sign the module that is uploaded", ErrSignature, sig.KeyID)
	}
	return nil
}

// KeyID names a public key: the first 16 hexadecimal digits of the SHA-256 of
// its 32 bytes. It finds a key, and proves nothing.
func KeyID(key ed25519.PublicKey) string {
	sum := sha256.Sum256(key)
	return hex.EncodeToString(sum[:8])
}

const scheme = "ed25519"

// String returns the signature as text.
func (sig Signature) String() string {
	return scheme + ":" + sig.KeyID + ":" + base64.StdEncoding.EncodeToString(sig.Bytes[:])
}

// MarshalText implements encoding.TextMarshaler.
func (sig Signature) MarshalText() ([]byte, error) { return []byte(sig.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (sig *Signature) UnmarshalText(text []byte) (err error) {
	*sig, err = Parse(string(text))
	return err
}

// Parse reads a signature as [Signature.String] writes it. White space around it
// is ignored.
func Parse(text string) (Signature, error) {
	var sig Signature
	parts := strings.Split(strings.TrimSpace(text), ":")
	if len(parts) != 3 || parts[0] != scheme {
		return sig, fmt.Errorf("%w: %.100q is not \"%s:<key id>:<base64>\"", ErrSignature, text, scheme)
	}
	if id, err := hex.DecodeString(parts[1]); err != nil || len(id) != 8 || strings.ToLower(parts[1]) != parts[1] {
		return sig, fmt.Errorf("%w: key id %.40q is not 16 hexadecimal digits in lower case", ErrSignature, parts[1])
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(parts[2])
	if err != nil || len(raw) != ed25519.SignatureSize {
		return sig, fmt.Errorf("%w: %.100q is not %d bytes in base64", ErrSignature, parts[2], ed25519.SignatureSize)
	}
	sig.KeyID = parts[1]
	copy(sig.Bytes[:], raw)
	return sig, nil
}
