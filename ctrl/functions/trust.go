package functions

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"sfc/ctrl/api"
	"sfc/ctrl/functions/sign"
	"sfc/ctrl/store"
)

// MaxKeys is the most keys of a tenant.
const MaxKeys = 64

// PublicKey returns the key of an object.
func PublicKey(k *api.Key) (ed25519.PublicKey, error) {
	raw, err := base64.StdEncoding.DecodeString(k.Spec.PublicKey)
	if err != nil || len(raw) != ed25519.PublicKeySize {
		return nil, fmt.Errorf("key %.80s: %w: %.80q is not %d bytes in base64", k.Metadata.Name, sign.ErrKey, k.Spec.PublicKey, ed25519.PublicKeySize)
	}
	return raw, nil
}

// AddKey makes the tenant trust a public key, under a name. The same key under
// the same name is no error.
func (s *Store) AddKey(ctx context.Context, name string, key ed25519.PublicKey) (*api.Key, error) {
	switch {
	case !labelRE.MatchString(name):
		return nil, fmt.Errorf("key %.80q: %w: use 1 to 63 lower-case letters, digits and hyphens", name, ErrName)
	case len(key) != ed25519.PublicKeySize:
		return nil, fmt.Errorf("key %s: %w: it has %d bytes", name, sign.ErrKey, len(key))
	}
	all, err := s.Keys()
	if err != nil {
		return nil, err
	}
	text := base64.StdEncoding.EncodeToString(key)
	for _, k := range all {
		switch same := k.Spec.PublicKey == text; {
		case same && k.Metadata.Name == name:
			return k, nil
		case same:
			return nil, fmt.Errorf("key %s: %w: it is there under the name %s", name, store.ErrExists, k.Metadata.Name)
		case k.Metadata.Name == name:
			return nil, fmt.Errorf("key %s: %w: revoke that one first, or give this one another name", name, store.ErrExists)
		}
	}
	if len(all) >= MaxKeys {
		return nil, &LimitError{Tenant: s.tenant, Resource: "keys", Used: int64(len(all)), Add: 1, Limit: MaxKeys}
	}
	now := s.opts.Now().UTC()
	k := &api.Key{
		Metadata: api.Metadata{Name: name, Tenant: s.tenant, UID: rand.Text(), Generation: 1, CreatedAt: now, UpdatedAt: now},
		Spec:     api.KeySpec{PublicKey: text},
	}
	value, err := encode(k)
	if err != nil {
		return nil, err
	}
	revision, err := s.keys.Create(ctx, name, value)
	if err != nil {
		return nil, err
	}
	k.Metadata.SetRevision(revision)
	return k, nil
}

// Keys returns the keys that the tenant trusts, by name.
func (s *Store) Keys() ([]*api.Key, error) { return list[api.Key](s.keys, "") }

// RevokeKey ends the trust in a key. Chains whose functions nobody else signed
// go on with what they run, say so in their conditions, and take in nothing new
// if the tenant requires signatures.
func (s *Store) RevokeKey(ctx context.Context, name, resourceVersion string) error {
	k, err := get[api.Key](s.keys, name)
	if err != nil {
		return err
	}
	if err := expect(&k.Metadata, api.BucketKeys, name, resourceVersion); err != nil {
		return err
	}
	revision, err := k.Metadata.Revision()
	if err != nil {
		return err
	}
	_, err = s.keys.Delete(ctx, name, revision)
	return err
}

// vouch notes who signed a version.
func (s *Store) vouch(f *api.Function, sig sign.Signature) error {
	keys, err := s.Keys()
	if err != nil {
		return err
	}
	for _, k := range keys {
		pub, err := PublicKey(k)
		if err != nil || sig.KeyID != "" && sign.KeyID(pub) != sig.KeyID {
			continue
		}
		f.Spec.Signature = &api.Signature{Key: k.Metadata.Name, Value: base64.StdEncoding.EncodeToString(sig.Bytes[:])}
		if err = verify(f, k); err == nil {
			return nil
		}
		f.Spec.Signature = nil
		if sig.KeyID != "" {
			return err
		}
	}
	if sig.KeyID == "" {
		return fmt.Errorf("%w: none of the tenant's %d keys signed it: add the key (sfcctl key add), or sign with another", ErrUntrusted, len(keys))
	}
	return fmt.Errorf("%w: it is signed by key %s, which is none of the tenant's: add that key (sfcctl key add), or sign with another", ErrUntrusted, sig.KeyID)
}

// verify checks a version's signature with the key that it names.
func verify(f *api.Function, k *api.Key) error {
	pub, err := PublicKey(k)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUntrusted, err)
	}
	subject, err := subjectOf(f)
	if err != nil {
		return err
	}
	sig := sign.Signature{KeyID: sign.KeyID(pub)}
	raw, err := base64.StdEncoding.DecodeString(f.Spec.Signature.Value)
	if err != nil || len(raw) != len(sig.Bytes) {
		return fmt.Errorf("%w: %w: %.100q", ErrUntrusted, sign.ErrSignature, f.Spec.Signature.Value)
	}
	copy(sig.Bytes[:], raw)
	if err := sig.Verify(pub, subject); err != nil {
		return fmt.Errorf("%w: %w", ErrUntrusted, err)
	}
	return nil
}

// subjectOf is what the signature of a stored version speaks of.
func subjectOf(f *api.Function) (sub sign.Subject, err error) {
	for digest, to := range map[string]*[32]byte{f.Spec.Digest: &sub.Module, f.Spec.ManifestDigest: &sub.Manifest} {
		raw, err := hex.DecodeString(strings.TrimPrefix(digest, digestPrefix))
		if err != nil || len(raw) != len(to) {
			return sub, fmt.Errorf("%s@%s: %w: digest %.80q", f.Metadata.Name, f.Spec.Version, store.ErrDamaged, digest)
		}
		copy(to[:], raw)
	}
	return sub, nil
}

// Signature returns the signature of a stored version as its file has it, for
// pushing it to a registry; ok is false when it has none.
func (s *Store) Signature(f *api.Function) (sig sign.Signature, ok bool) {
	if f.Spec.Signature == nil {
		return sig, false
	}
	keys, err := s.Keys()
	if err != nil {
		return sig, false
	}
	i := slices.IndexFunc(keys, func(k *api.Key) bool { return k.Metadata.Name == f.Spec.Signature.Key })
	if i < 0 || verify(f, keys[i]) != nil {
		return sig, false
	}
	raw, err := base64.StdEncoding.DecodeString(f.Spec.Signature.Value)
	pub, err2 := PublicKey(keys[i])
	if errors.Join(err, err2) != nil || len(raw) != len(sig.Bytes) {
		return sig, false
	}
	sig.KeyID = sign.KeyID(pub)
	copy(sig.Bytes[:], raw)
	return sig, true
}
