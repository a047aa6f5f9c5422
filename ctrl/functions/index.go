package functions

import (
	"fmt"

	"sfc/ctrl/api"
	"sfc/ctrl/store"
)

// Index is a tenant's functions, aliases and keys in memory, for who looks up
// many references: reconciliation, which is told of every change. It belongs to
// one goroutine.
type Index struct {
	versions map[string]*api.Function // by name/version
	aliases  map[string]*api.Alias    // by name/alias
	keys     map[string]*api.Key      // by name
	digests  map[string]map[string]*api.Function
	trusted  map[*api.Function]error // signatures that were checked with today's keys
}

// NewIndex returns an empty index.
func NewIndex() *Index {
	return &Index{
		versions: map[string]*api.Function{}, aliases: map[string]*api.Alias{}, keys: map[string]*api.Key{},
		digests: map[string]map[string]*api.Function{}, trusted: map[*api.Function]error{},
	}
}

// SetVersion takes in a version under its key in the bucket; nil: it is gone.
func (x *Index) SetVersion(key string, f *api.Function) {
	if old := x.versions[key]; old != nil {
		delete(x.trusted, old)
		delete(x.digests[old.Spec.Digest], key)
		if len(x.digests[old.Spec.Digest]) == 0 {
			delete(x.digests, old.Spec.Digest)
		}
		delete(x.versions, key)
	}
	if f == nil {
		return
	}
	x.versions[key] = f
	if x.digests[f.Spec.Digest] == nil {
		x.digests[f.Spec.Digest] = map[string]*api.Function{}
	}
	x.digests[f.Spec.Digest][key] = f
}

// SetAlias takes in an alias under its key; nil: it is gone.
func (x *Index) SetAlias(key string, a *api.Alias) { set(x.aliases, key, a) }

// SetKey takes in a key under its name; nil: it is gone.
func (x *Index) SetKey(name string, k *api.Key) {
	set(x.keys, name, k)
	clear(x.trusted)
}

func set[T any](m map[string]*T, key string, v *T) {
	if v == nil {
		delete(m, key)
	} else {
		m[key] = v
	}
}

// Resolve says what a reference stands for.
func (x *Index) Resolve(text string) (Resolution, error) {
	r, err := ParseRef(text)
	if err != nil {
		return Resolution{}, err
	}
	return resolve(x, r)
}

// Trust says whether a version may run where signatures are required: a key that
// the tenant still trusts has signed it. Each answer is computed once.
func (x *Index) Trust(f *api.Function) error {
	err, known := x.trusted[f]
	if !known {
		err = x.check(f)
		x.trusted[f] = err
	}
	return err
}

func (x *Index) check(f *api.Function) error {
	if f.Spec.Signature == nil {
		return fmt.Errorf("%s@%s: %w: nobody signed it", f.Metadata.Name, f.Spec.Version, ErrUntrusted)
	}
	k := x.keys[f.Spec.Signature.Key]
	if k == nil {
		return fmt.Errorf("%s@%s: %w: key %s, which signed it, was revoked", f.Metadata.Name, f.Spec.Version, ErrUntrusted, f.Spec.Signature.Key)
	}
	if err := verify(f, k); err != nil {
		return fmt.Errorf("%s@%s: %w", f.Metadata.Name, f.Spec.Version, err)
	}
	return nil
}

// Versions calls f with every version, by its key, in no order.
func (x *Index) Versions(f func(key string, version *api.Function)) {
	for key, v := range x.versions {
		f(key, v)
	}
}

// Aliases calls f with every alias, by its key, in no order.
func (x *Index) Aliases(f func(key string, alias *api.Alias)) {
	for key, a := range x.aliases {
		f(key, a)
	}
}

func (x *Index) version(name, version string) (*api.Function, error) {
	return there(x.versions[name+"/"+version])
}

func (x *Index) alias(name, alias string) (*api.Alias, error) {
	return there(x.aliases[name+"/"+alias])
}

// digest returns the version with the smallest key of those with the content.
func (x *Index) digest(digest string) (*api.Function, error) {
	var first string
	for key := range x.digests[digestPrefix+digest] {
		if first == "" || key < first {
			first = key
		}
	}
	return there(x.versions[first])
}

func there[T any](v *T) (*T, error) {
	if v == nil {
		return nil, store.ErrNotFound
	}
	return v, nil
}

// Version returns the version of a key, nil for none.
func (x *Index) Version(key string) *api.Function { return x.versions[key] }

// Alias returns the alias of a key, nil for none.
func (x *Index) Alias(key string) *api.Alias { return x.aliases[key] }

// Has says whether a version has that content, as sha256:...
func (x *Index) Has(digest string) bool { return len(x.digests[digest]) > 0 }

// Digests calls f with the digest of every version, as sha256:..., each once.
func (x *Index) Digests(f func(digest string)) {
	for d := range x.digests {
		f(d)
	}
}
