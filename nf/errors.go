package nf

import (
	"errors"
	"strings"
	"unicode"
	"unicode/utf8"
)

// What can be wrong with a module or its configuration. Every error of this
// package wraps one of these; those of [Check], [ParseManifest] and
// [Manifest.CheckConfig] are a [*Refusal] or several joined.
var (
	// ErrNotWasm: the bytes are not a core WebAssembly module.
	ErrNotWasm = errors.New("not a WebAssembly module")
	// ErrMalformed: a WebAssembly module that contradicts the binary format,
	// or uses a proposal the engine does not run.
	ErrMalformed = errors.New("malformed WebAssembly module")
	// ErrABI: the module speaks another version of the ABI, or none.
	ErrABI = errors.New("wrong ABI")
	// ErrManifest: the manifest is missing, unreadable or untrue.
	ErrManifest = errors.New("bad manifest")
	// ErrImport: the module wants something the engine does not offer.
	ErrImport = errors.New("import not offered")
	// ErrExport: the module lacks an export or gives it another type.
	ErrExport = errors.New("bad export")
	// ErrMemory: the module's memory does not fit the address map.
	ErrMemory = errors.New("bad memory")
	// ErrData: a data segment lies where the engine's window is.
	ErrData = errors.New("bad data segment")
	// ErrStack: the module's stack lies where the engine's window is.
	ErrStack = errors.New("bad stack")
	// ErrLimit: the module is larger than a limit allows.
	ErrLimit = errors.New("over a limit")
	// ErrConfig: a configuration breaks the function's schema.
	ErrConfig = errors.New("bad configuration")
)

// Refusal is one thing wrong with a module, its manifest or its configuration.
type Refusal struct {
	// Err is one of the package's sentinels.
	Err error
	// What names the thing and its value.
	What string
	// Cure says what is allowed, or what to do.
	Cure string
}

// Error returns what is wrong and its cure in one line. Names and values come
// from tenants: what a terminal might obey is replaced.
func (r *Refusal) Error() string {
	text := r.What
	if r.Cure != "" {
		text += ": " + r.Cure
	}
	return strings.Map(func(c rune) rune {
		if !unicode.IsPrint(c) {
			return utf8.RuneError
		}
		return c
	}, text)
}

// Unwrap makes errors.Is see the sentinel.
func (r *Refusal) Unwrap() error { return r.Err }

// Refusals returns the parts of err one by one, in order: err may be nil, a
// [*Refusal], any other error, or several of them joined.
func Refusals(err error) []error {
	if err == nil {
		return nil
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	var all []error
	for _, e := range joined.Unwrap() {
		all = append(all, Refusals(e)...)
	}
	return all
}
