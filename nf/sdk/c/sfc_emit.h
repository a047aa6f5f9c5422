// SPDX-License-Identifier: Apache-2.0
//
// sfc_emit.h: the import sfc.emit, which exports records. A module that calls it
// lists "emit" among its manifest's capabilities, and the layouts of its records
// under "records": see nf/ABI.md, "Records". A record begins with the number of
// its layout as 16 bits and 16 bits of 0.
//
// It never waits: what finds no room is lost, and the engine counts it. About
// 100 ns a call: for ends of flows and the like, not for packets.
#ifndef SFC_EMIT_H
#define SFC_EMIT_H

#include "sfc.h"

#define SFC_RECORD_MAX 512 // bytes

#ifdef SFC_NATIVE
// sfc_sink is where a function that is compiled natively leaves its records,
// each behind its length as 32 bits. The host sets it before the first call.
struct sfc_sink { uint8_t *buf; uint32_t size, used; };
extern struct sfc_sink sfc_sink;

static inline void sfc_emit(const void *record, uint32_t len) {
	const uint8_t *from = record;
	if (len > SFC_RECORD_MAX || sfc_sink.size - sfc_sink.used < 4 + len)
		return;
	uint8_t *to = sfc_sink.buf + sfc_sink.used;
	for (uint32_t i = 0; i < 4; i++)
		*to++ = (uint8_t)(len >> 8 * i);
	for (uint32_t i = 0; i < len; i++)
		*to++ = from[i];
	sfc_sink.used += 4 + len;
}
#else
// sfc_emit exports len bytes, at most SFC_RECORD_MAX.
__attribute__((import_module("sfc"), import_name("emit")))
void sfc_emit(const void *record, uint32_t len);
#endif

#endif
