package nftest

/*
#include <stdint.h>
#include <stdlib.h>

// struct sfc_host of sfc_flow.h.
struct native_host {
	void *ctx;
	int32_t (*flow_bind)(void *ctx, uint32_t i, void *t);
	int32_t (*claim)(void *ctx, uint32_t i, uint64_t hi, uint64_t lo, uint64_t value);
	uint64_t (*claim_find)(void *ctx, uint64_t hi, uint64_t lo);
};

int32_t sfcNativeBind(void *ctx, uint32_t i, void *t);
int32_t sfcNativeClaim(void *ctx, uint32_t i, uint64_t hi, uint64_t lo, uint64_t value);
uint64_t sfcNativeClaimFind(void *ctx, uint64_t hi, uint64_t lo);
*/
import "C"

import (
	"runtime/cgo"
	"unsafe"

	"sfc/dataplane/flow"
)

// hostLink is how a native build reaches its host: a handle that C keeps.
type hostLink struct {
	handle cgo.Handle
	ctx    *cgo.Handle // in C's memory, which it may point to
}

// newHostLink makes symbol, a library's sfc_host, call l's methods.
func newHostLink(symbol unsafe.Pointer, l *live) *hostLink {
	h := &hostLink{handle: cgo.NewHandle(l), ctx: (*cgo.Handle)(C.malloc(C.size_t(unsafe.Sizeof(cgo.Handle(0)))))}
	*h.ctx = h.handle
	*(*C.struct_native_host)(symbol) = C.struct_native_host{
		ctx:        unsafe.Pointer(h.ctx),
		flow_bind:  (*[0]byte)(C.sfcNativeBind),
		claim:      (*[0]byte)(C.sfcNativeClaim),
		claim_find: (*[0]byte)(C.sfcNativeClaimFind),
	}
	return h
}

// close frees the link; the library must not be called any more.
func (h *hostLink) close() {
	if h != nil {
		h.handle.Delete()
		C.free(unsafe.Pointer(h.ctx))
	}
}

func liveOf(ctx unsafe.Pointer) *live { return (*(*cgo.Handle)(ctx)).Value().(*live) }

//export sfcNativeBind
func sfcNativeBind(ctx unsafe.Pointer, i C.uint32_t, t unsafe.Pointer) C.int32_t {
	return C.int32_t(liveOf(ctx).bind(int(i), *(*[flow.TupleSize]byte)(t)))
}

//export sfcNativeClaim
func sfcNativeClaim(ctx unsafe.Pointer, i C.uint32_t, hi, lo, value C.uint64_t) C.int32_t {
	return C.int32_t(liveOf(ctx).Claim(int(i), uint64(hi), uint64(lo), uint64(value)))
}

//export sfcNativeClaimFind
func sfcNativeClaimFind(ctx unsafe.Pointer, hi, lo C.uint64_t) C.uint64_t {
	return C.uint64_t(liveOf(ctx).ClaimFind(uint64(hi), uint64(lo)))
}
