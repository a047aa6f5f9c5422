package keeper

import (
	"sync/atomic"
	"unsafe"
)

func cellsOf(mem []byte) cells {
	words := (*[2]atomic.Uint64)(unsafe.Pointer(unsafe.SliceData(mem)))
	return cells{&words[0], &words[1]}
}
