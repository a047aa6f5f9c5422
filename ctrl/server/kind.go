package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"sfc/ctrl/api"
	"sfc/ctrl/store"
)

// object is a pointer to a kind.
type object[T any] interface {
	*T
	api.Object
}

// kind says how the objects of a kind are kept, and what is special about them.
type kind[T any, P object[T]] struct {
	bucket string
	// host objects are in the system's space even if the path names a tenant.
	host bool
	// param is the name of the object's name in paths.
	param string
	// prefix is what the keys of a list begin with. Nil: nothing.
	prefix func(r *request) string
	// bare makes what is left of a deleted object from its key.
	bare func(o P, key string)
	// decode reads a stored object. Nil: it is stored as it is.
	decode func(value []byte, o P) error
	// status reads the observed state, and adds what is known besides.
	status func(r *request, o P, observed []byte) error
	// accept checks an object beyond Validate, and sets what was left out. old is
	// what is there, nil for nothing.
	accept func(r *request, o, old P) error
	// encode makes what is stored of an accepted object. old is what is stored,
	// nil for nothing. Nil: the object itself.
	encode func(r *request, o P, old []byte) ([]byte, error)
	// spec points to what users write.
	spec func(o P) any
	// visible says whether the caller may see an object at all. Nil: yes.
	visible func(r *request, o P) bool
	// after is called when an object was made or changed.
	after func(r *request, o P) error
	// remove deletes an object in a special way. Nil: the key.
	remove func(r *request, o P, revision uint64) error
}

// home is the tenant whose space objects are in; "" for the system's.
func (k *kind[T, P]) home(r *request) string {
	if k.host {
		return ""
	}
	return r.tenant
}

func (k *kind[T, P]) open(r *request) (*store.Bucket, error) {
	return r.s.spaces.bucket(r.Context(), k.home(r), k.bucket)
}

// statuses is the bucket of what is observed of the objects.
func (k *kind[T, P]) statuses(r *request) (*store.Bucket, error) {
	return r.s.spaces.bucket(r.Context(), k.home(r), api.BucketStatus)
}

func (k *kind[T, P]) keyPrefix(r *request) string {
	if k.prefix == nil {
		return ""
	}
	return k.prefix(r)
}

// read makes an object of what is stored of it, and of what is observed.
func (k *kind[T, P]) read(r *request, e store.Entry, observed *store.Bucket) (P, error) {
	o := P(new(T))
	var err error
	if k.decode != nil {
		err = k.decode(e.Value, o)
	} else {
		err = json.Unmarshal(e.Value, o)
	}
	if err == nil && k.status != nil {
		var status []byte
		if s, serr := observed.Get(api.StatusKey(k.bucket, e.Key)); serr == nil {
			status = s.Value
		} else if !errors.Is(serr, store.ErrNotFound) {
			return nil, serr
		}
		err = k.status(r, o, status)
	}
	if err != nil {
		return nil, fmt.Errorf("read %s %s: %w", k.bucket, e.Key, err)
	}
	t, m := o.Header()
	*t = api.Type{APIVersion: api.Version, Kind: o.KindName()}
	m.SetRevision(e.Revision)
	return o, nil
}

// find returns the object that a path names, and what is stored of it.
func (k *kind[T, P]) find(r *request) (P, store.Entry, error) {
	return k.lookup(r, k.keyPrefix(r)+r.PathValue(k.param))
}

func (k *kind[T, P]) lookup(r *request, key string) (P, store.Entry, error) {
	bucket, err := k.open(r)
	if err != nil {
		return nil, store.Entry{}, err
	}
	e, err := bucket.Get(key)
	if err != nil {
		return nil, store.Entry{}, err
	}
	statuses, err := k.statuses(r)
	if err != nil {
		return nil, store.Entry{}, err
	}
	o, err := k.read(r, e, statuses)
	if err == nil && k.visible != nil && !k.visible(r, o) {
		return nil, store.Entry{}, notFound()
	}
	return o, e, err
}

// sameSpec says whether two objects ask for the same.
func (k *kind[T, P]) sameSpec(a, b P) (bool, error) {
	x, err := json.Marshal(k.spec(a))
	if err != nil {
		return false, err
	}
	y, err := json.Marshal(k.spec(b))
	return bytes.Equal(x, y), err
}

// take reads the object in a request's body, checks it and says whose it is.
func (k *kind[T, P]) take(r *request) (P, error) {
	o := P(new(T))
	if err := r.decode(o); err != nil {
		return nil, err
	}
	_, m := o.Header()
	var errs []api.FieldError
	if name := r.PathValue(k.param); name != "" {
		if m.Name != "" && m.Name != name {
			errs = append(errs, api.At("metadata.name", "%q is not what the path says: %q", m.Name, name))
		}
		m.Name = name
	}
	if m.Tenant != "" && m.Tenant != r.tenant || m.Tenant != "" && k.param == "tenant" {
		errs = append(errs, api.At("metadata.tenant", "%q is not what the path says: %q", m.Tenant, r.tenant))
	}
	if k.param != "tenant" {
		m.Tenant = r.tenant
	}
	if errs = append(errs, o.Validate()...); len(errs) > 0 {
		return nil, api.Invalid(errs...)
	}
	return o, nil
}

// stamp sets what the server says in an object's metadata.
func stamp(m *api.Metadata, old *api.Metadata, uid string) {
	now := time.Now().UTC()
	version := m.ResourceVersion
	*m = api.Metadata{Name: m.Name, Tenant: m.Tenant, ResourceVersion: version, UID: uid, Generation: 1, CreatedAt: now, UpdatedAt: now}
	if old != nil {
		m.UID, m.CreatedAt, m.Generation = old.UID, old.CreatedAt, old.Generation+1
	}
}

// store encodes an accepted object without what is not the spec's.
func (k *kind[T, P]) value(r *request, o P, old []byte) ([]byte, error) {
	if k.encode != nil {
		return k.encode(r, o, old)
	}
	bare := *o
	p := P(&bare)
	t, m := p.Header()
	*t, m.ResourceVersion = api.Type{APIVersion: api.Version, Kind: p.KindName()}, ""
	return json.Marshal(p)
}

// lastPart is what follows the last slash of a key.
func lastPart(key string) string { return key[strings.LastIndexByte(key, '/')+1:] }
