// SPDX-License-Identifier: Apache-2.0
//
// sfc_mem.h: memcpy and its kin, which clang may call even in a module without
// a C library, and a bump allocator for configure time.
//
// In Wasm memcpy, memmove and memset become memory.copy and memory.fill. These
// leave the compiled code for the host (some ten ns): for a few bytes whose
// number the compiler does not know, write a loop.
#ifndef SFC_MEM_H
#define SFC_MEM_H

#include "sfc.h"

#ifdef SFC_NATIVE
#include <string.h>
#else
__attribute__((weak)) void *memcpy(void *restrict dst, const void *restrict src, size_t n) {
	return __builtin_memcpy(dst, src, n);
}

__attribute__((weak)) void *memmove(void *dst, const void *src, size_t n) {
	return __builtin_memmove(dst, src, n);
}

__attribute__((weak)) void *memset(void *dst, int c, size_t n) {
	return __builtin_memset(dst, c, n);
}

__attribute__((weak, no_builtin("memcmp", "bcmp"))) int memcmp(const void *a, const void *b, size_t n) {
	const uint8_t *x = a, *y = b;
	for (; n && *x == *y; n--)
		x++, y++;
	return n ? *x - *y : 0;
}
#endif

// sfc_heap hands out parts of one static block, for tables built while the
// function is configured. There is no free: sfc_heap_reset gives all back when
// a new configuration starts. The block is zero pages until touched, so a
// generous size costs nothing but its place in the module's memory limit.
struct sfc_heap {
	uint8_t *base;
	size_t size, used;
	size_t touched; // what lies behind was never given out, and is zero
};

// SFC_HEAP defines a heap of the given size in bytes.
#define SFC_HEAP(name, bytes)                                       \
	static uint8_t name##_block[bytes] __attribute__((aligned(64))); \
	static struct sfc_heap name = {name##_block, bytes, 0, 0}

static inline void sfc_heap_reset(struct sfc_heap *h) { h->used = 0; }

// sfc_heap_alloc returns bytes zeroed bytes at an address that is a multiple
// of 64, or NULL when the heap is full.
static inline void *sfc_heap_alloc(struct sfc_heap *h, size_t bytes) {
	size_t start = (h->used + 63) & ~(size_t)63;
	if (start > h->size || bytes > h->size - start)
		return NULL;
	h->used = start + bytes;
	// The rest costs memory only once it is used.
	if (start < h->touched)
		memset(h->base + start, 0, (h->used < h->touched ? h->used : h->touched) - start);
	if (h->touched < h->used)
		h->touched = h->used;
	return h->base + start;
}

// sfc_heap_shrink makes the block allocated last end bytes behind p.
static inline void sfc_heap_shrink(struct sfc_heap *h, const void *p, size_t bytes) {
	h->used = (size_t)((const uint8_t *)p - h->base) + bytes;
}

#endif
