// Package ipc is how the processes of the daemon talk: calls in both directions
// over a unix stream socket, with file descriptors.
//
// A frame is 8 bytes of header and a JSON object:
//
//	0  length of the object in bytes, little endian, at most [MaxFrame]
//	4  number of descriptors that come with it (SCM_RIGHTS, unix(7)), at most [MaxFiles] + 1
//	6  the bytes "sf"
//
// The kernel hands descriptors over with the first byte that they were sent
// with, and never reads on past them, so those of a frame are there when its
// first byte is. A body that is longer than a frame travels as a sealed memfd in
// front of the frame's own descriptors; callers do not notice.
//
// Both sides begin with a hello that says which versions of which interfaces
// they speak; where they differ, neither says anything more. After that each
// side may call the other, any number of calls at a time.
//
// The other side may be hostile: whatever it sends ends at worst the
// connection, with an error that says why. What it sent and nobody took is
// closed.
package ipc

import (
	"errors"
	"fmt"
	"time"
)

// Limits of a connection.
const (
	// MaxFrame is the longest JSON object of a frame, in bytes.
	MaxFrame = 1 << 20
	// MaxBody is the longest body of a call or answer, in bytes: what does not
	// fit a frame goes as a memfd.
	MaxBody = 64 << 20
	// MaxFiles is how many descriptors go with a call or an answer. The kernel's
	// own limit is 253 (SCM_MAX_FD).
	MaxFiles = 200
	// MaxCalls is how many calls of the other side are answered at a time;
	// further ones are refused with [CodeBusy].
	MaxCalls = 256

	helloTime = 10 * time.Second // for both hellos
	writeTime = 10 * time.Second // for a frame, before the other side counts as stuck
)

// Errors of connections.
var (
	// ErrLost: the connection ended while a call waited for its answer, or
	// before it began. Whether the call was executed is not known.
	ErrLost = errors.New("connection lost")
	// ErrClosed: this side closed the connection. It is wrapped by ErrLost's
	// error for pending calls.
	ErrClosed = errors.New("connection closed on this side")
	// ErrProtocol: the other side sent what this protocol does not allow.
	ErrProtocol = errors.New("protocol violated")
	// ErrVersion: the two sides speak different versions of an interface.
	ErrVersion = errors.New("versions differ")
	// ErrTooLarge: a body or the number of descriptors is over its limit.
	// Nothing was sent.
	ErrTooLarge = errors.New("too large for a call")
)

// Codes of [Error] that this package itself gives.
const (
	CodeNoMethod   = "no_method"   // the other side has no such method
	CodeBadRequest = "bad_request" // the body is not what the method takes
	CodeBusy       = "busy"        // MaxCalls are under way
	CodeCanceled   = "canceled"    // the handler ended because its context did
	CodeTooLarge   = "too_large"   // the answer is over a limit
)

// Error is what a method answered instead of a result. A handler that returns
// one, wrapped or not, chooses the code; all other errors travel as text alone.
type Error struct {
	Code string `json:"code,omitempty"`
	Text string `json:"text"`
}

func (e *Error) Error() string { return e.Text }

// Errorf makes an error with a code for the other side.
func Errorf(code, format string, args ...any) error {
	return &Error{Code: code, Text: fmt.Sprintf(format, args...)}
}

// Code returns the code of the [Error] in err's chain, "" without.
func Code(err error) string {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	return ""
}
