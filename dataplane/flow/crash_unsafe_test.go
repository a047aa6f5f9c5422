package flow

import (
	"sync/atomic"
	"unsafe"
)

// wordAt is a word of memory that another process looks at.
func wordAt(mem []byte, at int) *atomic.Uint64 { return (*atomic.Uint64)(unsafe.Pointer(&mem[at])) }
