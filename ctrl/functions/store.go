package functions

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"sfc/ctrl/api"
	"sfc/ctrl/store"
	"sfc/nf"
)

// Options configure a [Store]. The zero value selects the defaults.
type Options struct {
	// Limits bound every module. Default: those of package nf.
	Limits nf.Limits
	// Spool is the directory where uploads wait that are too large to be held
	// in memory, as files without a name. Default: that for temporary files.
	Spool string
	// Uploads is how many uploads of the tenant are read at once; others wait.
	// Default 16.
	Uploads int
	// Now is the clock of provenance. Default time.Now.
	Now func() time.Time
}

func (o Options) withDefaults() Options {
	o.Limits = o.Limits.WithDefaults()
	if o.Spool == "" {
		o.Spool = os.TempDir()
	}
	if o.Uploads == 0 {
		o.Uploads = 16
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}

// Policy is what a tenant's spec says of its functions.
type Policy struct {
	// Versions bounds how many versions are stored, Bytes the sum of their
	// modules' sizes. 0: no limit.
	Versions, Bytes int64
	// RequireSigned refuses modules that no key of the tenant signed.
	RequireSigned bool
}

// PolicyOf returns what a tenant's spec says.
func PolicyOf(t *api.TenantSpec) Policy {
	return Policy{Versions: int64(t.Modules), Bytes: int64(t.ModuleBytes), RequireSigned: t.RequireSigned}
}

// Store is the functions of one tenant. Its methods are safe for concurrent use.
// There should be one per tenant in a process: it is what keeps uploads and
// [Store.Collect] apart.
type Store struct {
	tenant    string
	opts      Options
	modules   *store.Modules
	functions *store.Bucket
	aliases   *store.Bucket
	keys      *store.Bucket

	uploads chan struct{} // holds a token per upload that is read
	commit  chan struct{} // holds the token of whoever adds or removes versions
}

// Open opens the functions of the tenant whose space it is. It is good as long as
// the space is open.
func Open(ctx context.Context, sp *store.Space, opts Options) (*Store, error) {
	opts = opts.withDefaults()
	if opts.Uploads < 0 {
		return nil, fmt.Errorf("functions option Uploads %d: it is negative", opts.Uploads)
	}
	s := &Store{tenant: sp.Name(), opts: opts, uploads: make(chan struct{}, opts.Uploads), commit: make(chan struct{}, 1)}
	var err error
	for name, b := range map[string]**store.Bucket{api.BucketFunctions: &s.functions, api.BucketAliases: &s.aliases, api.BucketKeys: &s.keys} {
		if *b, err = sp.Bucket(ctx, name); err != nil {
			return nil, fmt.Errorf("functions of %s: %w", s.tenant, err)
		}
	}
	if s.modules, err = sp.Modules(ctx); err != nil {
		return nil, fmt.Errorf("functions of %s: %w", s.tenant, err)
	}
	return s, nil
}

// take puts a token into a channel that bounds how many do something at once.
func take(ctx context.Context, tokens chan struct{}) (release func(), err error) {
	select {
	case tokens <- struct{}{}:
		return func() { <-tokens }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: others are being served first: %w", store.ErrUnavailable, ctx.Err())
	}
}

// get reads an object; its resource version is that of the store.
func get[T any, P interface {
	*T
	api.Object
}](b *store.Bucket, key string) (P, error) {
	e, err := b.Get(key)
	if err != nil {
		return nil, err
	}
	return decode[T, P](e)
}

func decode[T any, P interface {
	*T
	api.Object
}](e store.Entry) (P, error) {
	obj := P(new(T))
	if err := json.Unmarshal(e.Value, obj); err != nil {
		return nil, fmt.Errorf("%s: %w: %w", e.Key, store.ErrDamaged, err)
	}
	_, meta := obj.Header()
	meta.SetRevision(e.Revision)
	return obj, nil
}

// list reads all objects whose keys begin with prefix.
func list[T any, P interface {
	*T
	api.Object
}](b *store.Bucket, prefix string) ([]P, error) {
	page, err := b.List(prefix, 0, "")
	if err != nil {
		return nil, err
	}
	all := make([]P, 0, len(page.Entries))
	for _, e := range page.Entries {
		obj, err := decode[T, P](e)
		if err != nil {
			return nil, err
		}
		all = append(all, obj)
	}
	return all, nil
}

// encode writes an object as it is stored: without its resource version, which is
// the store's to say.
func encode(obj api.Object) ([]byte, error) {
	kind, meta := obj.Header()
	*kind = api.Type{APIVersion: api.Version, Kind: obj.KindName()}
	was := meta.ResourceVersion
	meta.ResourceVersion = ""
	defer func() { meta.ResourceVersion = was }()
	return json.Marshal(obj)
}

// expect compares the revision that a caller knew, if any, with the one stored.
func expect(meta *api.Metadata, bucket, key, resourceVersion string) error {
	if resourceVersion == "" || resourceVersion == meta.ResourceVersion {
		return nil
	}
	have, err := meta.Revision()
	want := api.Metadata{ResourceVersion: resourceVersion}
	wanted, err2 := want.Revision()
	if err := errors.Join(err, err2); err != nil {
		return fmt.Errorf("%w: %w", store.ErrConflict, err)
	}
	return &store.ConflictError{Bucket: bucket, Key: key, Want: wanted, Have: have}
}
