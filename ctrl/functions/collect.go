package functions

import (
	"context"
	"fmt"
	"time"

	"sfc/ctrl/api"
	"sfc/ctrl/store"
)

// Collection is what [Store.Collect] removed, or would.
type Collection struct {
	// Versions that nothing uses.
	Versions []*api.Function
	// Modules that no version names any more.
	Modules []store.Module
	// Bytes of those modules.
	Bytes int64
}

// Collect removes versions that no alias stands for and could go back to by one
// rollback, that no chain uses, and that are older than grace; then the modules
// that nothing names. refs are the references of all the tenant's chains,
// digests those of the modules that chains run at the moment, which may be
// older than what their references stand for now. With dryRun it only says what
// it would remove.
func (s *Store) Collect(ctx context.Context, refs, digests []string, grace time.Duration, dryRun bool) (Collection, error) {
	done, err := take(ctx, s.commit)
	if err != nil {
		return Collection{}, err
	}
	defer done()
	used, err := s.used(refs)
	if err != nil {
		return Collection{}, err
	}
	if err := s.rollbacks(used); err != nil {
		return Collection{}, err
	}
	running := map[string]bool{}
	for _, d := range digests {
		running[trimDigest(d)] = true
	}
	all, err := list[api.Function](s.functions, "")
	if err != nil {
		return Collection{}, err
	}
	var c Collection
	kept := map[string]bool{}
	horizon := s.opts.Now().Add(-grace)
	for _, f := range all {
		digest := trimDigest(f.Spec.Digest)
		if used[f.Metadata.Name+"/"+f.Spec.Version] != "" || running[digest] || f.Metadata.CreatedAt.After(horizon) {
			kept[digest] = true
			continue
		}
		c.Versions = append(c.Versions, f)
	}
	unused := func(digest string) bool { return !kept[digest] && !running[digest] }
	modules, err := s.modules.List(ctx)
	if err != nil {
		return Collection{}, err
	}
	for _, m := range modules {
		if unused(m.Digest) {
			c.Modules = append(c.Modules, m)
			c.Bytes += m.Size
		}
	}
	if dryRun {
		return c, nil
	}
	for _, f := range c.Versions {
		revision, err := f.Metadata.Revision()
		if err != nil {
			return Collection{}, err
		}
		if _, err := s.functions.Delete(ctx, f.Metadata.Name+"/"+f.Spec.Version, revision); err != nil {
			return Collection{}, fmt.Errorf("remove %s@%s: %w", f.Metadata.Name, f.Spec.Version, err)
		}
	}
	// Two rounds: the first finds what is unused, the second removes it. What
	// somebody is putting at this moment they leave alone, and nobody can be
	// about to refer to anything, since the commit token is here.
	for range 2 {
		if _, err := s.modules.Collect(ctx, func(digest string) bool { return !unused(digest) }); err != nil {
			return Collection{}, err
		}
	}
	return c, nil
}

// rollbacks adds the versions that a rollback of each alias would go to.
func (s *Store) rollbacks(used map[string]string) error {
	aliases, err := list[api.Alias](s.aliases, "")
	if err != nil {
		return err
	}
	for _, a := range aliases {
		for _, h := range a.Status.History {
			if h.Version != a.Spec.Version {
				used[a.Spec.Function+"/"+h.Version] = "alias " + a.Metadata.Name + " could go back to it"
				break
			}
		}
	}
	return nil
}
