// Package keep is memory that outlives the process that uses it: shared memory
// under names, whose descriptors somebody else holds, too. A process that was
// killed leaves it behind as it was at that instant, and the next one opens it
// by the same names.
//
//	flows/acme/edge/0                 flow table of a chain on worker 0
//	slots/acme/edge/fw/0/<layout>     what a function keeps of its flows
//	umem, claims, ...                 what there is one of
//
// Who opens memory that was kept must not trust it further than its own checks
// reach: it may have been cut off in the middle of any write.
package keep

import (
	"errors"
	"fmt"

	"sfc/dataplane/arena"
)

// Errors of a [Store].
var (
	// ErrName means that a name cannot be kept.
	ErrName = errors.New("not a name for kept memory")
	// ErrSize means that what was kept has another size than is asked for.
	ErrSize = errors.New("kept memory has another size")
)

// Store keeps memory by name. Safe for concurrent use.
type Store interface {
	// Open returns the memory of a name, of size bytes, a multiple of the page
	// size. kept says that it was there, with its contents; else it is new and
	// zero, and kept from now on. What is there with another size is left alone
	// ([ErrSize]): forget it first. The caller closes the region; what is kept
	// stays.
	Open(name string, size int, o arena.Options) (r *arena.Region, kept bool, err error)
	// Forget keeps a name no longer. Regions that are open stay valid. To
	// forget what is not there is no error.
	Forget(name string) error
	// Names returns the names that are kept, sorted.
	Names() []string
}

// MaxName is the longest name in bytes: the kernel's limit for memfds is 249.
const MaxName = 200

// CheckName says whether a name can be kept ([ErrName]): parts of letters,
// digits and "._-:@" with single slashes between them; no part is "." or "..".
func CheckName(name string) error {
	if len(name) > MaxName {
		return fmt.Errorf("name of %d bytes, at most %d are possible: %w", len(name), MaxName, ErrName)
	}
	part := 0 // where the part under way begins
	for i := 0; i <= len(name); i++ {
		if i < len(name) && name[i] != '/' {
			if !inName(name[i]) {
				return fmt.Errorf("name %q, byte %d: use letters, digits and ._-:@: %w", name, i, ErrName)
			}
			continue
		}
		switch name[part:i] {
		case "", ".", "..":
			return fmt.Errorf("name %q has the part %q: %w", name, name[part:i], ErrName)
		}
		part = i + 1
	}
	return nil
}

func inName(c byte) bool {
	switch {
	case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		return true
	}
	switch c {
	case '.', '_', '-', ':', '@':
		return true
	}
	return false
}

// Local returns a store that keeps nothing: all memory is new, and gone when
// its region is closed. For processes whose flows end with them.
func Local() Store { return local{} }

type local struct{}

func (local) Open(name string, size int, o arena.Options) (*arena.Region, bool, error) {
	if err := CheckName(name); err != nil {
		return nil, false, err
	}
	r, err := arena.Open(name, size, o)
	return r, false, err
}

func (local) Forget(name string) error { return CheckName(name) }

func (local) Names() []string { return nil }
