package functions

import (
	"context"
	"errors"
	"fmt"
	"io"

	"sfc/ctrl/api"
	"sfc/ctrl/store"
)

// Get returns a version.
func (s *Store) Get(name, version string) (*api.Function, error) {
	f, err := s.version(name, version)
	if err != nil {
		return nil, err
	}
	return f, s.aliased(f)
}

// List returns the versions of a function, or (name "") of all, by key.
func (s *Store) List(name string) ([]*api.Function, error) {
	prefix := ""
	if name != "" {
		prefix = name + "/"
	}
	all, err := list[api.Function](s.functions, prefix)
	if err != nil {
		return nil, err
	}
	return all, s.aliased(all...)
}

// aliased notes in versions which aliases point to them.
func (s *Store) aliased(all ...*api.Function) error {
	aliases, err := list[api.Alias](s.aliases, "")
	if err != nil {
		return err
	}
	by := map[string][]string{}
	for _, a := range aliases {
		key := a.Spec.Function + "/" + a.Spec.Version
		by[key] = append(by[key], a.Metadata.Name)
	}
	for _, f := range all {
		f.Status.Aliases = by[f.Metadata.Name+"/"+f.Spec.Version]
	}
	return nil
}

// Open returns a reader of a module's bytes; see [store.Modules.Open].
func (s *Store) Open(ctx context.Context, digest string) (io.Reader, int64, error) {
	r, m, err := s.modules.Open(ctx, trimDigest(digest))
	return r, m.Size, err
}

func trimDigest(digest string) string {
	if len(digest) > len(digestPrefix) && digest[:len(digestPrefix)] == digestPrefix {
		return digest[len(digestPrefix):]
	}
	return digest
}

// Delete removes a version that no alias stands for, nor a chain uses: refs are
// the references of all the tenant's chains. Its module goes with it unless
// another version has the same.
func (s *Store) Delete(ctx context.Context, name, version, resourceVersion string, refs []string) error {
	done, err := take(ctx, s.commit)
	if err != nil {
		return err
	}
	defer done()
	key := name + "/" + version
	f, err := s.version(name, version)
	if err != nil {
		return err
	}
	if err := expect(&f.Metadata, api.BucketFunctions, key, resourceVersion); err != nil {
		return err
	}
	used, err := s.used(refs)
	if err != nil {
		return err
	}
	if by := used[key]; by != "" {
		return fmt.Errorf("delete %s@%s: %w: %s", name, version, ErrInUse, by)
	}
	return s.remove(ctx, f)
}

// remove deletes a version and, if it was the last with that content, the
// module. The commit token is held.
func (s *Store) remove(ctx context.Context, f *api.Function) error {
	revision, err := f.Metadata.Revision()
	if err != nil {
		return err
	}
	if _, err := s.functions.Delete(ctx, f.Metadata.Name+"/"+f.Spec.Version, revision); err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	return s.drop(ctx, f.Spec.Digest)
}

// used says of every version that is in use, by key, who uses it.
func (s *Store) used(refs []string) (map[string]string, error) {
	used := map[string]string{}
	for _, text := range refs {
		r, err := ParseRef(text)
		if err != nil {
			continue // names nothing
		}
		res, err := resolve(s, r)
		if errors.Is(err, store.ErrNotFound) {
			continue
		} else if err != nil {
			return nil, err
		}
		for _, f := range []*api.Function{res.Function, res.Canary} {
			if f != nil {
				used[f.Metadata.Name+"/"+f.Spec.Version] = "a chain uses " + text
			}
		}
	}
	aliases, err := list[api.Alias](s.aliases, "")
	if err != nil {
		return nil, err
	}
	for _, a := range aliases {
		used[a.Spec.Function+"/"+a.Spec.Version] = "alias " + a.Metadata.Name + " stands for it"
		if c := a.Spec.Canary; c != nil {
			used[a.Spec.Function+"/"+c.Version] = "alias " + a.Metadata.Name + " has it as canary"
		}
	}
	return used, nil
}
