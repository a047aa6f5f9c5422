// Package api is what the daemon and its clients say to each other over HTTP:
// the objects, the live data, the table of routes, and the OpenAPI document made
// of them. It is a leaf: it knows neither the server nor the store.
//
// An object has metadata, a spec, which users write, and a status, which the
// daemon writes. A chain file (see sfc/chains) is a [Chain] in YAML.
package api

import (
	"fmt"
	"strconv"
	"time"
)

// Version is the apiVersion of every object.
const Version = "sfc/v1"

// Type says what an object is. Requests may leave it out.
type Type struct {
	// APIVersion is sfc/v1.
	APIVersion string `json:"apiVersion,omitzero"`
	// Kind is the object's kind, such as Chain.
	Kind string `json:"kind,omitzero"`
}

// Metadata is what all objects have. All but the names is set by the server.
type Metadata struct {
	// Name is unique among the objects of its kind in its tenant.
	Name string `json:"name"`
	// Tenant owns the object; empty for objects of the whole host.
	Tenant string `json:"tenant,omitzero"`
	// UID tells an object from an earlier one of the same name.
	UID string `json:"uid,omitzero"`
	// Generation counts the changes of the spec, from 1.
	Generation int64 `json:"generation,omitzero"`
	// ResourceVersion names the spec as it was read. A change that carries it is
	// refused (409) when the object has another by then. Opaque.
	ResourceVersion string `json:"resourceVersion,omitzero"`
	// CreatedAt is when the object was made.
	CreatedAt time.Time `json:"createdAt,omitzero"`
	// UpdatedAt is when its spec was changed last.
	UpdatedAt time.Time `json:"updatedAt,omitzero"`
}

// SetRevision makes the resource version that of a revision of the store.
func (m *Metadata) SetRevision(revision uint64) {
	m.ResourceVersion = strconv.FormatUint(revision, 10)
}

// Revision returns the store's revision in the resource version; 0 when it
// names none.
func (m *Metadata) Revision() (uint64, error) {
	if m.ResourceVersion == "" {
		return 0, nil
	}
	revision, err := strconv.ParseUint(m.ResourceVersion, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("resourceVersion %.40q is not one of this server's: read the object again", m.ResourceVersion)
	}
	return revision, nil
}

// Object is implemented by pointers to all kinds.
type Object interface {
	// Header returns the parts that all objects have.
	Header() (*Type, *Metadata)
	// KindName is the kind, such as Chain.
	KindName() string
	// Validate says what is wrong with what users write, by field.
	Validate() []FieldError
}

// ListMetadata is what all lists have.
type ListMetadata struct {
	// ResourceVersion is where to watch from so that nothing is missed.
	ResourceVersion string `json:"resourceVersion"`
	// Continue gets the next page; empty on the last one.
	Continue string `json:"continue,omitzero"`
}

// List is a page of objects, sorted by name.
type List[T any] struct {
	Metadata ListMetadata `json:"metadata"`
	Items    []T          `json:"items"`
}

// Types of watch events.
const (
	Added    = "ADDED"
	Modified = "MODIFIED"
	Deleted  = "DELETED"
	// Bookmark carries no object: it tells how far the watch is.
	Bookmark = "BOOKMARK"
	// Failed ends a watch; Problem says why.
	Failed = "ERROR"
)

// WatchEvent is a line of a watch. The events of an object come in the order of
// its changes; of several changes between two looks, the last may be the only
// one told.
type WatchEvent[T any] struct {
	// Type is ADDED, MODIFIED, DELETED, BOOKMARK or ERROR.
	Type string `json:"type" enum:"ADDED,MODIFIED,DELETED,BOOKMARK,ERROR"`
	// ResourceVersion is where a watch goes on that ends here.
	ResourceVersion string `json:"resourceVersion"`
	// Object as it is now; of a deleted one the metadata as far as known.
	Object *T `json:"object,omitzero"`
	// Problem is why the watch ends.
	Problem *Problem `json:"problem,omitzero"`
}
