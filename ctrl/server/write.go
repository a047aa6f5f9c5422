package server

import (
	"crypto/rand"
	"errors"
	"net/http"
	"strings"

	"sfc/ctrl/api"
	"sfc/ctrl/store"
)

// maxRetries bounds how often a change without a precondition is tried again
// when others change the same object.
const maxRetries = 64

// precondition is what must hold of an object for it to be changed.
type precondition struct {
	revision uint64 // 0: any
	absent   bool
}

// precondition reads If-Match, If-None-Match and the resource version in the
// body; what they say must agree.
func (r *request) precondition(m *api.Metadata) (p precondition, err error) {
	if m != nil {
		if p.revision, err = m.Revision(); err != nil {
			return p, api.Invalid(api.At("metadata.resourceVersion", "%v", err))
		}
	}
	if tag := r.Header.Get("If-Match"); tag != "" && tag != "*" {
		version := api.Metadata{ResourceVersion: strings.Trim(strings.TrimPrefix(tag, "W/"), `"`)}
		revision, err := version.Revision()
		if err != nil || revision == 0 {
			return p, badRequest("If-Match: %.60q is no resourceVersion", tag)
		}
		if p.revision != 0 && p.revision != revision {
			return p, badRequest("If-Match and metadata.resourceVersion contradict each other")
		}
		p.revision = revision
	}
	switch r.Header.Get("If-None-Match") {
	case "":
	case "*":
		p.absent = true
		if p.revision != 0 {
			return p, badRequest("an object cannot be absent and have a resourceVersion")
		}
	default:
		return p, badRequest("If-None-Match: only * is understood here")
	}
	return p, nil
}

// create makes an object. The very same again is no error.
func (k *kind[T, P]) create(r *request) (*answer, error) {
	o, err := k.take(r)
	if err != nil {
		return nil, err
	}
	_, m := o.Header()
	m.ResourceVersion = ""
	release, err := r.change(k.owner(r, m), k.param != "tenant")
	if err != nil {
		return nil, err
	}
	defer release()
	key := api.StoreKey(o)
	for range maxRetries {
		old, _, err := k.lookup(r, key)
		if errors.Is(err, store.ErrNotFound) {
			made, err := k.insert(r, o, key)
			if errors.Is(err, store.ErrExists) {
				continue
			}
			return made, err
		}
		if err != nil {
			return nil, err
		}
		return k.again(r, o, old)
	}
	return nil, store.ErrConflict
}

// again answers when what is to be made is there already.
func (k *kind[T, P]) again(r *request, o, old P) (*answer, error) {
	if k.accept != nil {
		if err := k.accept(r, o, old); err != nil {
			return nil, err
		}
	}
	same, err := k.sameSpec(o, old)
	if err != nil {
		return nil, err
	}
	_, m := old.Header()
	if !same {
		p := api.NewProblem(http.StatusConflict, api.ReasonExists, "%s %q exists already, and is another: change it with PUT, or take another name", old.KindName(), m.Name)
		p.ResourceVersion = m.ResourceVersion
		return nil, p
	}
	return &answer{status: http.StatusOK, body: old, header: etag(m)}, nil
}

// owner is the tenant that is changed with an object.
func (k *kind[T, P]) owner(r *request, m *api.Metadata) string {
	if k.param == "tenant" {
		return m.Name
	}
	return r.tenant
}

// insert stores a new object.
func (k *kind[T, P]) insert(r *request, o P, key string) (*answer, error) {
	if k.accept != nil {
		if err := k.accept(r, o, nil); err != nil {
			return nil, err
		}
	}
	_, m := o.Header()
	stamp(m, nil, rand.Text())
	value, err := k.value(r, o, nil)
	if err != nil {
		return nil, err
	}
	bucket, err := k.open(r)
	if err != nil {
		return nil, err
	}
	// What was observed of an earlier one of the name is not true of this.
	if err := k.forget(r, key); err != nil {
		return nil, err
	}
	revision, err := bucket.Create(r.Context(), key, value)
	if err != nil {
		return nil, err
	}
	return k.stored(r, o, http.StatusCreated, revision)
}

// stored answers with an object as it was stored.
func (k *kind[T, P]) stored(r *request, o P, status int, revision uint64) (*answer, error) {
	t, m := o.Header()
	*t = api.Type{APIVersion: api.Version, Kind: o.KindName()}
	m.SetRevision(revision)
	if k.after != nil {
		if err := k.after(r, o); err != nil {
			return nil, err
		}
	}
	return &answer{status: status, body: o, header: etag(m)}, nil
}

func etag(m *api.Metadata) http.Header {
	return http.Header{"Etag": {`"` + m.ResourceVersion + `"`}}
}

// put makes or replaces an object.
func (k *kind[T, P]) put(r *request) (*answer, error) {
	o, err := k.take(r)
	if err != nil {
		return nil, err
	}
	_, m := o.Header()
	need, err := r.precondition(m)
	if err != nil {
		return nil, err
	}
	release, err := r.change(k.owner(r, m), k.param != "tenant")
	if err != nil {
		return nil, err
	}
	defer release()
	for range maxRetries {
		fresh := *o
		a, err := k.replace(r, P(&fresh), need)
		lost := errors.Is(err, store.ErrConflict) || errors.Is(err, store.ErrExists) || errors.Is(err, store.ErrNotFound)
		if lost && need == (precondition{}) {
			continue // somebody was faster, and the caller does not mind
		}
		return a, err
	}
	return nil, store.ErrConflict
}

// replace tries once to put an object in the place of what is there.
func (k *kind[T, P]) replace(r *request, o P, need precondition) (*answer, error) {
	key := api.StoreKey(o)
	old, e, err := k.lookup(r, key)
	switch {
	case errors.Is(err, store.ErrNotFound) && need.revision == 0:
		return k.insert(r, o, key)
	case err != nil:
		return nil, err
	case need.absent:
		return nil, conflictWith(e.Revision)
	case need.revision != 0 && need.revision != e.Revision:
		return nil, conflictWith(e.Revision)
	}
	if k.accept != nil {
		if err := k.accept(r, o, old); err != nil {
			return nil, err
		}
	}
	_, was := old.Header()
	if same, err := k.sameSpec(o, old); err != nil {
		return nil, err
	} else if same {
		return &answer{status: http.StatusOK, body: old, header: etag(was)}, nil
	}
	_, m := o.Header()
	stamp(m, was, "")
	value, err := k.value(r, o, e.Value)
	if err != nil {
		return nil, err
	}
	bucket, err := k.open(r)
	if err != nil {
		return nil, err
	}
	revision, err := bucket.Update(r.Context(), key, value, e.Revision)
	if err != nil {
		return nil, err
	}
	if k.status != nil {
		e.Revision, e.Value = revision, value
		statuses, err := k.statuses(r)
		if err != nil {
			return nil, err
		}
		if o, err = k.read(r, e, statuses); err != nil {
			return nil, err
		}
	}
	return k.stored(r, o, http.StatusOK, revision)
}

// delete removes an object.
func (k *kind[T, P]) delete(r *request) (*answer, error) {
	need, err := r.precondition(nil)
	if err != nil {
		return nil, err
	}
	for range maxRetries {
		o, e, err := k.find(r)
		if err != nil {
			return nil, err
		}
		if need.revision != 0 && need.revision != e.Revision {
			return nil, conflictWith(e.Revision)
		}
		if k.remove != nil {
			err = k.remove(r, o, e.Revision)
		} else {
			err = k.drop(r, e)
		}
		if errors.Is(err, store.ErrConflict) && need.revision == 0 {
			continue
		}
		return &answer{}, err
	}
	return nil, store.ErrConflict
}

// drop deletes what is stored of an object.
func (k *kind[T, P]) drop(r *request, e store.Entry) error {
	release, err := r.change(r.tenant, false)
	if err != nil {
		return err
	}
	defer release()
	bucket, err := k.open(r)
	if err != nil {
		return err
	}
	if _, err := bucket.Delete(r.Context(), e.Key, e.Revision); err != nil {
		return err
	}
	return k.forget(r, e.Key)
}

// forget deletes what was observed of an object.
func (k *kind[T, P]) forget(r *request, key string) error {
	if k.status == nil {
		return nil
	}
	statuses, err := k.statuses(r)
	if err != nil {
		return err
	}
	for range maxRetries {
		e, err := statuses.Get(api.StatusKey(k.bucket, key))
		if err == nil {
			_, err = statuses.Delete(r.Context(), e.Key, e.Revision)
		}
		if err == nil || errors.Is(err, store.ErrNotFound) {
			return nil
		}
		if !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
	return store.ErrConflict
}

// change holds a tenant so that it is not deleted meanwhile. With exists it must
// still be there.
func (r *request) change(tenant string, exists bool) (release func(), err error) {
	if tenant == "" {
		return func() {}, nil
	}
	l := r.s.spaces.lock(tenant)
	l.RLock()
	if exists {
		if _, err := r.s.spaces.tenant(tenant); err != nil {
			l.RUnlock()
			return nil, err
		}
	}
	return l.RUnlock, nil
}
