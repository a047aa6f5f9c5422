// SPDX-License-Identifier: Apache-2.0
//
// burn: takes its time over every packet. Everything passes.
//
// Service function: burn
// Verdicts:   Next.
// Config:     turns: of a loop per packet, less than a nanosecond each.
#include "sfc.h"
#include "sfc_json.h"

static uint64_t turns;

SFC_EXPORT(sfc_configure) int32_t sfc_configure(uint32_t ptr, uint32_t len) {
	struct sfc_json j;
	uint32_t seen = 0;
	sfc_json_start(&j, ptr, len);
	sfc_json_object(&j);
	while (sfc_json_key(&j))
		if (sfc_json_field(&j, "turns", &seen, 1))
			turns = (uint64_t)sfc_json_int(&j, 1, 1000000);
		else
			sfc_json_fail(&j, SFC_JSON_UNKNOWN);
	return sfc_json_finish(&j);
}

SFC_EXPORT(sfc_process) void sfc_process(uint32_t n) {
	for (struct sfc_desc *d = sfc_descs(), *end = d + n; d < end; d++) {
		for (volatile uint64_t i = 0; i < turns; i++)
			;
		sfc_next(d);
	}
}
