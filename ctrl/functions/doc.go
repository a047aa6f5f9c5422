// Package functions is the function store of a tenant: versions of modules that
// never change, aliases that move between them, the keys whose signatures the
// tenant trusts.
//
//	bucket "functions"  name/version -> api.Function
//	bucket "aliases"    name/alias   -> api.Alias, with what it stood for before
//	bucket "keys"       key name     -> api.Key
//	Modules             sha256       -> the bytes of modules
//
// A module comes in through [Store.Put]. It is cut off at the limit while it is
// read, and nothing of it is stored, compiled or run before all checks of
// [nf.Check] and of its signature were passed.
//
// A chain names a function in one of these ways (see [ParseRef]):
//
//	firewall@1.2.0    that version
//	firewall@prod     what the alias stands for, and follows when it moves
//	sha256:...        that module, by its content
//
// Everything is one tenant's: there is no way to name another's function.
package functions

import (
	"errors"
	"fmt"

	"sfc/ctrl/store"
)

// Errors of this package. What is not there or was changed meanwhile is
// [store.ErrNotFound] and [store.ErrConflict], what is beyond a limit
// [store.ErrQuota] and [store.ErrTooLarge].
var (
	// ErrRejected says that a module may not be deployed. It wraps what
	// [nf.Check] says.
	ErrRejected = errors.New("module rejected")
	// ErrImmutable says that a version is there with another content.
	ErrImmutable = errors.New("version exists with another content")
	// ErrName says that a name, version or reference cannot be one.
	ErrName = errors.New("bad name")
	// ErrUntrusted says that a module has no signature, or none by a key that
	// the tenant trusts.
	ErrUntrusted = errors.New("module is not trusted")
	// ErrCanary says that there is no canary, or none is possible.
	ErrCanary = errors.New("bad canary")
	// ErrInUse says that something refers to what was to be deleted.
	ErrInUse = errors.New("in use")
)

// LimitError says which of a tenant's limits an upload would exceed. It matches
// [store.ErrQuota].
type LimitError struct {
	Tenant           string
	Resource         string // "versions" or "bytes of modules"
	Used, Add, Limit int64
}

func (e *LimitError) Error() string {
	return fmt.Sprintf("%s has %d of %d %s, %d more do not fit: delete versions that nothing uses (sfcctl nf gc), or have the limit raised",
		e.Tenant, e.Used, e.Limit, e.Resource, e.Add)
}

// Is matches store.ErrQuota.
func (e *LimitError) Is(target error) bool { return target == store.ErrQuota }
