// SPDX-License-Identifier: Apache-2.0
//
// slow: holds its worker up when a burst has a UDP packet to port 6666: for some
// turns of a loop, or without end. Everything passes.
//
// Service function: slow
// Verdicts:   Next.
// Config:     turns: of the loop, some nanoseconds each; 0: without end.
#include "sfc.h"
#include "sfc_inet.h"
#include "sfc_json.h"

static uint64_t turns;

SFC_EXPORT(sfc_configure) int32_t sfc_configure(uint32_t ptr, uint32_t len) {
	struct sfc_json j;
	uint32_t seen = 0;
	sfc_json_start(&j, ptr, len);
	sfc_json_object(&j);
	while (sfc_json_key(&j))
		if (sfc_json_field(&j, "turns", &seen, 1))
			turns = (uint64_t)sfc_json_int(&j, 0, 1000000000);
		else
			sfc_json_fail(&j, SFC_JSON_UNKNOWN);
	return sfc_json_finish(&j);
}

// hold_up takes its time.
static __attribute__((noinline)) void hold_up(void) {
	for (volatile uint64_t i = 0; !turns || i < turns; i++)
		;
}

SFC_EXPORT(sfc_process) void sfc_process(uint32_t n) {
	bool marked = false;
	for (struct sfc_desc *d = sfc_descs(), *end = d + n; d < end; d++) {
		const uint8_t *udp = d->proto == SFC_PROTO_UDP ? sfc_header(d, d->l4, 8) : NULL;
		marked |= udp && udp[2] << 8 == (6666 & 0xff00) && udp[3] == (6666 & 0xff);
		sfc_next(d);
	}
	if (marked)
		hold_up();
}
