package sign

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
)

// maxKeyFile is the longest file of a key that is read, in bytes. One has some
// 120.
const maxKeyFile = 64 << 10

// PEM types (RFC 7468).
const (
	pemPrivate = "PRIVATE KEY"
	pemPublic  = "PUBLIC KEY"
)

// GenerateKey makes a key pair, as the contents of two files. Whoever reads the
// first signs in its owner's name: give it mode 0600.
func GenerateKey() (private, public []byte, err error) {
	pub, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("make key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(priv)
	if err != nil {
		return nil, nil, fmt.Errorf("make key: %w", err)
	}
	public, err = MarshalPublicKey(pub)
	return pem.EncodeToMemory(&pem.Block{Type: pemPrivate, Bytes: der}), public, err
}

// MarshalPublicKey returns a public key in PEM.
func MarshalPublicKey(key ed25519.PublicKey) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return nil, fmt.Errorf("write key: %w: %w", ErrKey, err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: pemPublic, Bytes: der}), nil
}

// ParsePrivateKey reads a private key in PEM.
func ParsePrivateKey(text []byte) (ed25519.PrivateKey, error) {
	der, err := decode(text, pemPrivate)
	if err != nil {
		return nil, err
	}
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("private key: %w: %w", ErrKey, err)
	}
	priv, ok := key.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("private key: %w: it is a %T: make one with openssl genpkey -algorithm ed25519", ErrKey, key)
	}
	return priv, nil
}

// ParsePublicKey reads a public key in PEM.
func ParsePublicKey(text []byte) (ed25519.PublicKey, error) {
	der, err := decode(text, pemPublic)
	if err != nil {
		return nil, err
	}
	key, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return nil, fmt.Errorf("public key: %w: %w", ErrKey, err)
	}
	pub, ok := key.(ed25519.PublicKey)
	if !ok {
		return nil, fmt.Errorf("public key: %w: it is a %T: give one of ed25519", ErrKey, key)
	}
	return pub, nil
}

// decode returns the bytes of the first block, which must be of the type. What
// it says of others names no content: it may be a private key.
func decode(text []byte, want string) ([]byte, error) {
	if len(text) > maxKeyFile {
		return nil, fmt.Errorf("%w: its file has %d bytes, at most %d are read", ErrKey, len(text), maxKeyFile)
	}
	block, _ := pem.Decode(text)
	switch {
	case block == nil:
		return nil, fmt.Errorf("%w: no PEM block in it: it begins with \"-----BEGIN %s-----\"", ErrKey, want)
	case block.Type != want && block.Type == pemPrivate:
		return nil, fmt.Errorf("%w: this is the private key, which belongs to nobody else: give the public one (openssl pkey -pubout)", ErrKey)
	case block.Type != want:
		return nil, fmt.Errorf("%w: it is %.40q, not %q", ErrKey, block.Type, want)
	}
	return block.Bytes, nil
}
