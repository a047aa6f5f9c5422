package functions

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"sfc/ctrl/api"
	"sfc/ctrl/functions/sign"
	"sfc/ctrl/store"
	"sfc/nf"
)

// Upload is a module on its way in.
type Upload struct {
	// Name and Version are what the module is to be called. Left out: what its
	// manifest says. The name must be the manifest's, since counters, drop
	// reasons and flow state are known by it; the version may be another, so
	// that builds of one source can be told apart, unless only signed modules
	// are allowed: the signature vouches for the manifest's.
	Name, Version string
	// Module is read to its end, or to the first byte beyond a limit. That it
	// ends in time is for the caller to see to.
	Module io.Reader
	// Digest is what the module must have, as sha256:...; left out: any.
	Digest string
	// Signature of the module, nil for none. One that is given must be of a key
	// that the tenant trusts, whether signatures are required or not. Without a
	// key id all keys are tried.
	Signature *sign.Signature
	// Source is where the module came from, By who sent it.
	Source, By string
}

// inspecting bounds how many uploads of a process are in memory as a whole, for
// the time of their checks.
var inspecting = make(chan struct{}, 4)

// Put stores a version. created is false when it was there already with the same
// content. Errors are those of the package, of [nf.Check] behind ErrRejected,
// and of the store; after one there is nothing of the upload.
func (s *Store) Put(ctx context.Context, u Upload, p Policy) (f *api.Function, created bool, err error) {
	for _, name := range []struct {
		what, is string
		ok       bool
	}{
		{"function", u.Name, u.Name == "" || labelRE.MatchString(u.Name)},
		{"version", u.Version, u.Version == "" || isVersion(u.Version)},
	} {
		if !name.ok {
			return nil, false, fmt.Errorf("%s %.80q: %w: name functions as firewall, versions as 1.2.0", name.what, name.is, ErrName)
		}
	}
	release, err := take(ctx, s.uploads)
	if err != nil {
		return nil, false, err
	}
	defer release()
	sp, err := receive(u.Module, int64(s.opts.Limits.ModuleBytes), s.opts.Spool)
	if err != nil {
		return nil, false, err
	}
	defer func() { err = errors.Join(err, sp.Close()) }()
	if f, err = s.examine(ctx, sp, &u, p); err != nil {
		return nil, false, err
	}
	return s.add(ctx, sp, f, p)
}

// examine decides whether what was received may be stored, and describes it.
func (s *Store) examine(ctx context.Context, sp *spool, u *Upload, p Policy) (*api.Function, error) {
	digest := digestPrefix + hex.EncodeToString(sp.digest[:])
	if u.Digest != "" && u.Digest != digest {
		return nil, fmt.Errorf("module: %w: it is %s, not %.80s: send it again", store.ErrDigest, digest, u.Digest)
	}
	release, err := take(ctx, inspecting)
	if err != nil {
		return nil, err
	}
	defer release()
	wasm, err := sp.bytes()
	if err != nil {
		return nil, err
	}
	m, err := nf.Inspect(wasm)
	if err == nil {
		err = nf.Check(m, s.opts.Limits)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRejected, err)
	}
	manifest, err := nf.ParseManifest(m.Manifest)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRejected, err)
	}
	now := s.opts.Now().UTC()
	f := &api.Function{
		Metadata: api.Metadata{Name: u.Name, Tenant: s.tenant, UID: rand.Text(), Generation: 1, CreatedAt: now, UpdatedAt: now},
		Spec: api.FunctionSpec{
			Version: u.Version, Digest: digest, Size: sp.size, Manifest: summary(manifest),
			Provenance: api.Provenance{Source: clean(u.Source), UploadedBy: u.By, UploadedAt: now, BuiltWith: producers(wasm)},
		},
	}
	if f.Metadata.Name == "" {
		f.Metadata.Name = manifest.Name
	}
	if f.Spec.Version == "" {
		f.Spec.Version = manifest.Version
	}
	if f.Metadata.Name != manifest.Name {
		return nil, fmt.Errorf("%w: its manifest says %s, not %s: deploy it as %[2]s, or correct the manifest", ErrRejected, manifest.Name, f.Metadata.Name)
	}
	if p.RequireSigned && f.Spec.Version != manifest.Version {
		return nil, fmt.Errorf("%w: its manifest says version %s, not %s, and only what is signed may run here: build it as %[3]s and sign that", ErrRejected, manifest.Version, f.Spec.Version)
	}
	f.Spec.ManifestDigest = digestPrefix + hexSum(m.Manifest)
	if u.Signature != nil {
		if err := s.vouch(f, *u.Signature); err != nil {
			return nil, err
		}
	}
	if p.RequireSigned && f.Spec.Signature == nil {
		return nil, fmt.Errorf("%w: it has no signature: sign it (sfcctl nf sign) with a key of the tenant's", ErrUntrusted)
	}
	return f, nil
}

// add stores what was examined.
func (s *Store) add(ctx context.Context, sp *spool, f *api.Function, p Policy) (*api.Function, bool, error) {
	done, err := take(ctx, s.commit)
	if err != nil {
		return nil, false, err
	}
	defer done()
	key := f.Metadata.Name + "/" + f.Spec.Version
	have, err := get[api.Function](s.functions, key)
	switch {
	case err == nil && have.Spec.Digest == f.Spec.Digest:
		return s.countersign(ctx, have, f)
	case err == nil:
		return nil, false, fmt.Errorf("%s@%s: %w, %s: give this one a version of its own", f.Metadata.Name, f.Spec.Version, ErrImmutable, have.Spec.Digest)
	case !errors.Is(err, store.ErrNotFound):
		return nil, false, err
	}
	if err := s.admit(f, p); err != nil {
		return nil, false, err
	}
	value, err := encode(f)
	if err != nil {
		return nil, false, err
	}
	if _, err := s.modules.Put(ctx, sp.reader(), store.PutOptions{MaxSize: sp.size, Digest: f.Spec.Digest[len(digestPrefix):]}); err != nil {
		return nil, false, err
	}
	revision, err := s.functions.Create(ctx, key, value)
	if err != nil {
		// A module that no version names is nobody's: Collect would find it, too.
		return nil, false, errors.Join(err, s.drop(context.WithoutCancel(ctx), f.Spec.Digest))
	}
	f.Metadata.SetRevision(revision)
	return f, true, nil
}

// countersign adds a signature to a version that was there without.
func (s *Store) countersign(ctx context.Context, have, again *api.Function) (*api.Function, bool, error) {
	if have.Spec.Signature != nil || again.Spec.Signature == nil {
		return have, false, nil
	}
	revision, err := have.Metadata.Revision()
	if err != nil {
		return nil, false, err
	}
	have.Spec.Signature = again.Spec.Signature
	have.Metadata.UpdatedAt = again.Metadata.UpdatedAt
	value, err := encode(have)
	if err != nil {
		return nil, false, err
	}
	if revision, err = s.functions.Update(ctx, have.Metadata.Name+"/"+have.Spec.Version, value, revision); err != nil {
		return nil, false, err
	}
	have.Metadata.SetRevision(revision)
	return have, false, nil
}

// admit says whether a version fits the tenant's limits. Versions of the same
// content count once in bytes. The commit token is held.
func (s *Store) admit(f *api.Function, p Policy) error {
	if p.Versions == 0 && p.Bytes == 0 {
		return nil
	}
	all, err := list[api.Function](s.functions, "")
	if err != nil {
		return err
	}
	sizes := map[string]int64{}
	for _, have := range all {
		sizes[have.Spec.Digest] = have.Spec.Size
	}
	var bytes int64
	for _, size := range sizes {
		bytes += size
	}
	add := f.Spec.Size
	if _, known := sizes[f.Spec.Digest]; known {
		add = 0
	}
	switch {
	case p.Versions > 0 && int64(len(all)) >= p.Versions:
		return &LimitError{Tenant: s.tenant, Resource: "versions", Used: int64(len(all)), Add: 1, Limit: p.Versions}
	case p.Bytes > 0 && bytes+add > p.Bytes:
		return &LimitError{Tenant: s.tenant, Resource: "bytes of modules", Used: bytes, Add: add, Limit: p.Bytes}
	}
	return nil
}

// drop removes a module unless a version names it. The commit token is held.
func (s *Store) drop(ctx context.Context, digest string) error {
	if _, err := s.digest(digest[len(digestPrefix):]); !errors.Is(err, store.ErrNotFound) {
		return err
	}
	err := s.modules.Delete(ctx, digest[len(digestPrefix):])
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	return err
}

func hexSum(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
