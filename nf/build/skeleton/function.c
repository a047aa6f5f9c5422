// myfilter: drops TCP and UDP packets to one port.
//
// Service function: myfilter
// Expects:    IPv4 or IPv6 with TCP or UDP at l4; all else is Next, untouched.
// Verdicts:   Next, Drop(blocked_port).
// Config:     port (required): the destination port.
// State:      none.
//
// The contract between the engine and a function is nf/ABI.md. The headers of
// the SDK are documented in themselves.
#include "sfc.h"
#include "sfc_inet.h"
#include "sfc_json.h"
#include "sfc_mem.h"

// Numbers of drop reasons count from 1 and those of counters from 0, in the
// order of manifest.json.
enum { REASON_BLOCKED_PORT = 1 };
enum { COUNTER_INSPECTED };

static uint32_t blocked;

// sfc_configure reads the configuration (config.json). What it returns is 0, or
// says what is wrong and at which byte.
SFC_EXPORT(sfc_configure) int32_t sfc_configure(uint32_t ptr, uint32_t len) {
	struct sfc_json j;
	uint32_t seen = 0;
	sfc_json_start(&j, ptr, len);
	sfc_json_object(&j);
	while (sfc_json_key(&j))
		if (sfc_json_field(&j, "port", &seen, 1))
			blocked = (uint32_t)sfc_json_int(&j, 0, 65535);
		else
			sfc_json_fail(&j, SFC_JSON_UNKNOWN);
	if (!(seen & 1))
		sfc_json_fail(&j, SFC_JSON_MISSING);
	return sfc_json_finish(&j);
}

// is_blocked looks at one packet. The engine has parsed it: d->proto and d->l4
// say where the transport header is. sfc_header checks that it is all there.
static bool is_blocked(const struct sfc_desc *d) {
	const uint8_t *l4;
	if (d->proto != SFC_PROTO_TCP && d->proto != SFC_PROTO_UDP)
		return false;
	if (!(l4 = sfc_header(d, d->l4, 4)))
		return false;
	return sfc_be16(l4 + 2) == blocked;
}

// sfc_process runs once per burst and gives every packet a verdict.
SFC_EXPORT(sfc_process) void sfc_process(uint32_t n) {
	struct sfc_desc *d = sfc_descs();
	for (uint32_t i = 0; i < n; i++)
		if (is_blocked(&d[i]))
			sfc_drop(&d[i], REASON_BLOCKED_PORT);
		else
			sfc_next(&d[i]);
	sfc_count(COUNTER_INSPECTED, n);
}
