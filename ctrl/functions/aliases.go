package functions

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"sfc/ctrl/api"
	"sfc/ctrl/store"
)

// MaxHistory is how much is kept of what an alias stood for.
const MaxHistory = 20

// Aliases returns the aliases of a function, or (name "") of all.
func (s *Store) Aliases(function string) ([]*api.Alias, error) {
	prefix := ""
	if function != "" {
		prefix = function + "/"
	}
	return list[api.Alias](s.aliases, prefix)
}

// Alias returns an alias.
func (s *Store) Alias(function, name string) (*api.Alias, error) { return s.alias(function, name) }

// change is how an alias is to be moved. It gets what is there, or an empty spec
// of one that is new, and returns what is to be.
type change func(have *api.Alias) (api.AliasSpec, error)

// SetAlias makes an alias stand for a version, with or without a canary. With a
// resource version it must have that one still; with "0" it must be new. What
// it is already changes nothing.
func (s *Store) SetAlias(ctx context.Context, function, name string, spec api.AliasSpec, resourceVersion, by string) (*api.Alias, error) {
	return s.move(ctx, function, name, resourceVersion, by, true, func(*api.Alias) (api.AliasSpec, error) { return spec, nil })
}

// MoveAlias does what an assignment says, see [ParseAssignment]: all flows get the
// target's version, or a part of them while the others stay where they are.
func (s *Store) MoveAlias(ctx context.Context, function, name string, t Target, resourceVersion, by string) (*api.Alias, error) {
	return s.move(ctx, function, name, resourceVersion, by, true, func(have *api.Alias) (api.AliasSpec, error) {
		if t.Percent == 0 {
			return api.AliasSpec{Version: t.Version}, nil
		}
		if have.Spec.Version == "" {
			return api.AliasSpec{}, fmt.Errorf("alias %s of %s: %w: it stands for nothing yet that the other flows could meet: set it to a version first", name, function, ErrCanary)
		}
		return api.AliasSpec{Version: have.Spec.Version, Canary: &api.Canary{Version: t.Version, Percent: t.Percent}}, nil
	})
}

// Promote gives all flows the version under trial.
func (s *Store) Promote(ctx context.Context, function, name, resourceVersion, by string) (*api.Alias, error) {
	return s.move(ctx, function, name, resourceVersion, by, false, func(have *api.Alias) (api.AliasSpec, error) {
		if have.Spec.Canary == nil {
			return api.AliasSpec{}, fmt.Errorf("promote alias %s of %s: %w: it has none", name, function, ErrCanary)
		}
		return api.AliasSpec{Version: have.Spec.Canary.Version}, nil
	})
}

// Abort ends a trial: all flows meet again what the alias stands for. Without
// one there is nothing to do.
func (s *Store) Abort(ctx context.Context, function, name, resourceVersion, by string) (*api.Alias, error) {
	return s.move(ctx, function, name, resourceVersion, by, false, func(have *api.Alias) (api.AliasSpec, error) {
		return api.AliasSpec{Version: have.Spec.Version}, nil
	})
}

// Rollback goes back to the version that the alias stood for before. Under a
// trial it ends that: the version before is the one that the other flows never
// left. A second rollback undoes the first; who wants to go further back names
// the version.
func (s *Store) Rollback(ctx context.Context, function, name, resourceVersion, by string) (*api.Alias, error) {
	return s.move(ctx, function, name, resourceVersion, by, false, func(have *api.Alias) (api.AliasSpec, error) {
		if have.Spec.Canary != nil {
			return api.AliasSpec{Version: have.Spec.Version}, nil
		}
		for _, h := range have.Status.History {
			if h.Version != have.Spec.Version {
				return api.AliasSpec{Version: h.Version}, nil
			}
		}
		return api.AliasSpec{}, fmt.Errorf("roll back alias %s of %s: %w: it never stood for anything but %s", name, function, store.ErrNotFound, have.Spec.Version)
	})
}

// move reads, changes and writes an alias; if it was changed meanwhile, and the
// caller did not say from what, again.
func (s *Store) move(ctx context.Context, function, name, resourceVersion, by string, mayCreate bool, c change) (*api.Alias, error) {
	if !labelRE.MatchString(function) || !labelRE.MatchString(name) {
		return nil, fmt.Errorf("alias %.80q of %.80q: %w: use 1 to 63 lower-case letters, digits and hyphens", name, function, ErrName)
	}
	for range 8 {
		a, err := s.moveOnce(ctx, function, name, resourceVersion, by, mayCreate, c)
		if raced := errors.Is(err, store.ErrConflict) || errors.Is(err, store.ErrExists); !raced || resourceVersion != "" {
			return a, err
		}
	}
	return nil, fmt.Errorf("alias %s of %s: %w: others move it all the time", name, function, store.ErrConflict)
}

func (s *Store) moveOnce(ctx context.Context, function, name, resourceVersion, by string, mayCreate bool, c change) (*api.Alias, error) {
	// Versions must not go while an alias is being set to one.
	done, err := take(ctx, s.commit)
	if err != nil {
		return nil, err
	}
	defer done()
	key := function + "/" + name
	now := s.opts.Now().UTC()
	a, err := s.alias(function, name)
	fresh := errors.Is(err, store.ErrNotFound)
	switch {
	case fresh && mayCreate && (resourceVersion == "" || resourceVersion == "0"):
		a = &api.Alias{Metadata: api.Metadata{Name: name, Tenant: s.tenant, UID: rand.Text(), CreatedAt: now}}
	case err != nil:
		return nil, err
	case resourceVersion == "0":
		return nil, fmt.Errorf("alias %s of %s: %w", name, function, store.ErrExists)
	default:
		if err := expect(&a.Metadata, api.BucketAliases, key, resourceVersion); err != nil {
			return nil, err
		}
	}
	spec, err := c(a)
	if err != nil {
		return nil, err
	}
	spec.Function = function
	target, err := s.checkAlias(name, spec)
	if err != nil {
		return nil, err
	}
	if !fresh && sameAlias(a.Spec, spec) {
		return a, nil
	}
	a.Spec = spec
	a.Metadata.Generation++
	a.Metadata.UpdatedAt = now
	a.Status.Digest = target.Spec.Digest
	a.Status.History = append([]api.AliasMove{{Version: spec.Version, Canary: spec.Canary, At: now, By: by}}, a.Status.History...)
	a.Status.History = a.Status.History[:min(len(a.Status.History), MaxHistory)]
	revision, err := a.Metadata.Revision()
	if err != nil {
		return nil, err
	}
	value, err := encode(a)
	if err != nil {
		return nil, err
	}
	if fresh {
		revision, err = s.aliases.Create(ctx, key, value)
	} else {
		revision, err = s.aliases.Update(ctx, key, value, revision)
	}
	if err != nil {
		return nil, err
	}
	a.Metadata.SetRevision(revision)
	return a, nil
}

// checkAlias says whether an alias may stand for that, and returns its version.
func (s *Store) checkAlias(name string, spec api.AliasSpec) (*api.Function, error) {
	f, err := s.version(spec.Function, spec.Version)
	if err != nil {
		return nil, missing("alias "+name+": no version %s of function %s", spec.Version, spec.Function, err)
	}
	c := spec.Canary
	if c == nil {
		return f, nil
	}
	switch {
	case c.Version == spec.Version:
		return nil, fmt.Errorf("alias %s: %w: %s is what all flows meet already", name, ErrCanary, c.Version)
	case c.Percent < 1 || c.Percent > 99:
		return nil, fmt.Errorf("alias %s: %w: %d%%: 1%% to 99%% of the flows can meet it", name, ErrCanary, c.Percent)
	}
	if _, err := s.version(spec.Function, c.Version); err != nil {
		return nil, missing("alias "+name+": no version %s of function %s", c.Version, spec.Function, err)
	}
	return f, nil
}

func sameAlias(a, b api.AliasSpec) bool {
	return a.Version == b.Version && (a.Canary == nil) == (b.Canary == nil) && (a.Canary == nil || *a.Canary == *b.Canary)
}

// DeleteAlias removes an alias that no chain uses: refs are the references of all
// the tenant's chains.
func (s *Store) DeleteAlias(ctx context.Context, function, name, resourceVersion string, refs []string) error {
	a, err := s.alias(function, name)
	if err != nil {
		return err
	}
	key := function + "/" + name
	if err := expect(&a.Metadata, api.BucketAliases, key, resourceVersion); err != nil {
		return err
	}
	for _, text := range refs {
		if r, err := ParseRef(text); err == nil && r.Name == function && r.Alias == name {
			return fmt.Errorf("delete alias %s of %s: %w: a chain uses %s", name, function, ErrInUse, text)
		}
	}
	revision, err := a.Metadata.Revision()
	if err != nil {
		return err
	}
	_, err = s.aliases.Delete(ctx, key, revision)
	return err
}
