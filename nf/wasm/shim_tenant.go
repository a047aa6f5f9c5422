package wasm

// #include <stdlib.h>
// #include "shim.h"
import "C"

import (
	"sync/atomic"
	"time"
	"unsafe"
)

// maxLogLines bounds the log lines of a tenant per second.
const maxLogLines = 1_000_000

// logQuota bounds the log lines of all functions of a tenant: see log.c.
type logQuota struct{ c *C.struct_sfc_log_quota }

func newLogQuota() logQuota {
	return logQuota{(*C.struct_sfc_log_quota)(C.calloc(1, C.sizeof_struct_sfc_log_quota))}
}

// close frees it. No ring refers to it any more.
func (q logQuota) close() { C.free(unsafe.Pointer(q.c)) }

// set allows so many lines per second; 0: any number. Guests may run meanwhile.
func (q logQuota) set(lines int) {
	var cost uint64
	if lines > 0 {
		cost = uint64(time.Second) / uint64(lines)
	}
	(*atomic.Uint64)(unsafe.Pointer(&q.c.cost_ns)).Store(cost)
}

// suppressed returns how many lines were too many.
func (q logQuota) suppressed() uint64 {
	return (*atomic.Uint64)(unsafe.Pointer(&q.c.suppressed)).Load()
}

// growth is by how many bytes the instance's memory is larger than it was made.
func (i *instance) growth() int64 { return int64(i.c.mem.size - i.c.mem.minimum) }
