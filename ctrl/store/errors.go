package store

import (
	"errors"
	"fmt"
)

// Errors of this package. Those that carry data are typed and match one of
// these with errors.Is.
var (
	// ErrNotFound says that there is no such key or module.
	ErrNotFound = errors.New("not found")
	// ErrExists says that a key to be created is there already.
	ErrExists = errors.New("exists already")
	// ErrConflict says that a key has another revision than the caller knew.
	// See [ConflictError].
	ErrConflict = errors.New("changed meanwhile")
	// ErrExpired says that the events after a revision are no longer kept:
	// list again and watch from the list's revision.
	ErrExpired = errors.New("revision is too old or unknown: list again")
	// ErrName says that a name or key cannot be used.
	ErrName = errors.New("bad name")
	// ErrTooLarge says that a value or module is larger than allowed. See
	// [TooLargeError].
	ErrTooLarge = errors.New("too large")
	// ErrQuota says that a space is at a limit. See [QuotaError].
	ErrQuota = errors.New("quota exceeded")
	// ErrDigest says that content is not what its digest promises.
	ErrDigest = errors.New("content does not match its digest")
	// ErrFull says that the file system of the store has no room left. Reads
	// go on; writes do as soon as there is room again.
	ErrFull = errors.New("store directory is full")
	// ErrReadOnly says that the store's directory cannot be written.
	ErrReadOnly = errors.New("store directory is read-only")
	// ErrLocked says that another process has the store open. See
	// [LockedError].
	ErrLocked = errors.New("store is in use")
	// ErrDamaged says that data on disk is not what was written. See
	// [DamagedError].
	ErrDamaged = errors.New("store is damaged")
	// ErrUnavailable says that the store could not answer now. Whether a write
	// took place is unknown.
	ErrUnavailable = errors.New("store is unavailable")
	// ErrClosed says that the store was closed.
	ErrClosed = errors.New("store is closed")
)

// ConflictError says which revision a key has.
type ConflictError struct {
	Bucket, Key string
	Want, Have  uint64 // what the caller knew, what is stored
}

func (e *ConflictError) Error() string {
	return fmt.Sprintf("%s %q: has revision %d, not %d: get it again and repeat the change", e.Bucket, e.Key, e.Have, e.Want)
}

// Is matches ErrConflict.
func (e *ConflictError) Is(target error) bool { return target == ErrConflict }

// TooLargeError says what is too large. Size is 0 where it is unknown: the rest
// of a stream is not read.
type TooLargeError struct {
	What        string
	Size, Limit int64 // bytes
}

func (e *TooLargeError) Error() string {
	if e.Size == 0 {
		return fmt.Sprintf("%s has more than %d bytes", e.What, e.Limit)
	}
	return fmt.Sprintf("%s has %d bytes, at most %d are allowed", e.What, e.Size, e.Limit)
}

// Is matches ErrTooLarge.
func (e *TooLargeError) Is(target error) bool { return target == ErrTooLarge }

// QuotaError says which limit of a space a write would exceed.
type QuotaError struct {
	Space, Resource  string // Resource is "bytes" or "objects"
	Used, Add, Limit int64
}

func (e *QuotaError) Error() string {
	return fmt.Sprintf("%s has %d of %d %s, %d more do not fit: delete something or raise the limit", e.Space, e.Used, e.Limit, e.Resource, e.Add)
}

// Is matches ErrQuota.
func (e *QuotaError) Is(target error) bool { return target == ErrQuota }

// LockedError says who has the store open. PID is 0 where it is unknown.
type LockedError struct {
	Dir string
	PID int
}

func (e *LockedError) Error() string {
	who := "another process"
	if e.PID != 0 {
		who = fmt.Sprintf("process %d", e.PID)
	}
	return fmt.Sprintf("store %s is in use by %s: stop it or use another directory", e.Dir, who)
}

// Is matches ErrLocked.
func (e *LockedError) Is(target error) bool { return target == ErrLocked }

// DamagedError says what is out of service until somebody looks at it.
type DamagedError struct {
	Space, Name string // Name is that of the bucket or of the modules
	Quarantine  string // directory that holds what was found
}

func (e *DamagedError) Error() string {
	return fmt.Sprintf("%s of %s is damaged and out of service: what was found is in %s; put a copy from a backup in its place, or remove that directory to begin empty",
		e.Name, e.Space, e.Quarantine)
}

// Is matches ErrDamaged.
func (e *DamagedError) Is(target error) bool { return target == ErrDamaged }
