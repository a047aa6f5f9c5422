// SPDX-License-Identifier: Apache-2.0
//
// config.h: the configuration: which addresses are inside, which ones they are
// translated to, and which part of an address's ports a subscriber gets.
#ifndef NAT44_CONFIG_H
#define NAT44_CONFIG_H

#include "sfc_inet.h"
#include "sfc_json.h"

// The function's own codes of a refused configuration.
enum {
	REFUSED_PREFIX = SFC_JSON_OWN, // not an IPv4 prefix
	REFUSED_RANGE,                 // not an address, prefix or range, or backwards
	REFUSED_OVERLAP,               // an address is inside and in the pool, or twice in either
	REFUSED_PORTS,                 // a range of ports backwards, or smaller than a subscriber's share
	REFUSED_FILTERING,             // filtering that this mapping cannot have
};

enum mapping { ENDPOINT_INDEPENDENT, PER_DESTINATION };
enum filtering { BY_ADDRESS_AND_PORT, BY_ADDRESS, BY_NOTHING };

#define MAX_RANGES 64

// ranges is a set of addresses in host order, in the order of the configuration.
struct ranges {
	uint32_t n;
	struct { uint32_t first, last; } at[MAX_RANGES];
	uint64_t addresses; // in all of them
};

static struct settings {
	struct ranges inside, pool;
	uint32_t port, ports; // the first, and how many
	uint32_t share;       // ports of a subscriber, 0: all
	enum mapping mapping;
	enum filtering filtering;
	bool hairpin, pass_others;
} config;

// ranges_find says whether an address is in a set, and where, counted from 0.
static inline bool ranges_find(const struct ranges *r, uint32_t addr, uint64_t *at) {
	uint64_t before = 0;
	for (uint32_t i = 0; i < r->n; i++) {
		if (addr >= r->at[i].first && addr <= r->at[i].last) {
			*at = before + (addr - r->at[i].first);
			return true;
		}
		before += (uint64_t)r->at[i].last - r->at[i].first + 1;
	}
	return false;
}

static inline bool ranges_have(const struct ranges *r, uint32_t addr) {
	uint64_t at;
	return ranges_find(r, addr, &at);
}

// ranges_get returns the address at a place below r->addresses.
static inline uint32_t ranges_get(const struct ranges *r, uint64_t at) {
	uint32_t i = 0;
	for (uint64_t size; i + 1 < r->n && at >= (size = (uint64_t)r->at[i].last - r->at[i].first + 1); i++)
		at -= size;
	return r->at[i].first + (uint32_t)at;
}

static inline bool ranges_meet(const struct ranges *r, uint32_t first, uint32_t last) {
	for (uint32_t i = 0; i < r->n; i++)
		if (first <= r->at[i].last && r->at[i].first <= last)
			return true;
	return false;
}

// parse_range reads a prefix, an address, or with dash two addresses with a
// hyphen between them.
static bool parse_range(const char *s, uint32_t n, bool dash, uint32_t *first, uint32_t *last) {
	struct sfc_prefix p;
	uint32_t at = 0;
	if (dash && sfc_parse_ip4(s, n, &at, first) && at < n && s[at] == '-') {
		at++;
		return sfc_parse_ip4(s, n, &at, last) && at == n && *first <= *last;
	}
	if (!sfc_parse_prefix(s, n, &p) || p.ip6)
		return false;
	*first = (uint32_t)p.addr.lo;
	*last = *first | (uint32_t)~sfc_prefix_mask(p.bits + 96u).lo;
	return true;
}

// read_ranges reads an array of at least one element, none of whose addresses is
// in it or in other already.
static void read_ranges(struct sfc_json *j, struct ranges *r, const struct ranges *other, bool dash) {
	char text[64];
	uint32_t first = 0, last = 0;
	for (sfc_json_array(j); sfc_json_more(j);) {
		uint32_t n = sfc_json_string(j, text, sizeof text);
		if (j->error)
			return;
		if (!parse_range(text, n, dash, &first, &last))
			sfc_json_fail(j, dash ? REFUSED_RANGE : REFUSED_PREFIX);
		else if (ranges_meet(r, first, last) || ranges_meet(other, first, last))
			sfc_json_fail(j, REFUSED_OVERLAP);
		else if (r->n == MAX_RANGES)
			sfc_json_fail(j, SFC_JSON_LONG);
		else {
			r->at[r->n].first = first;
			r->at[r->n++].last = last;
			r->addresses += (uint64_t)last - first + 1;
		}
	}
	if (!r->n)
		sfc_json_fail(j, SFC_JSON_MISSING);
}

// read_ports reads "1024-65535".
static void read_ports(struct sfc_json *j, struct settings *c) {
	char text[16];
	uint32_t at = 0, first = 0, last = 0, n = sfc_json_string(j, text, sizeof text);
	if (j->error)
		return;
	if (!sfc_parse_dec(text, n, &at, 65535, &first) || at >= n || text[at++] != '-' ||
	    !sfc_parse_dec(text, n, &at, 65535, &last) || at != n || !first || last < first) {
		sfc_json_fail(j, REFUSED_PORTS);
		return;
	}
	c->port = first;
	c->ports = last - first + 1;
}

// read_config reads a configuration; one that is refused changes nothing.
static int32_t read_config(uint32_t ptr, uint32_t len) {
	static const char *const mappings[] = {"endpoint_independent", "address_and_port_dependent", NULL};
	static const char *const filterings[] = {"address_and_port_dependent", "address_dependent", "endpoint_independent", NULL};
	static const char *const others[] = {"drop", "pass", NULL};
	struct sfc_json j;
	uint32_t seen = 0;
	struct settings c = {.port = 1024, .ports = 65536 - 1024, .hairpin = true};
	sfc_json_start(&j, ptr, len);
	sfc_json_object(&j);
	while (sfc_json_key(&j))
		if (sfc_json_field(&j, "inside", &seen, 1))
			read_ranges(&j, &c.inside, &c.pool, false);
		else if (sfc_json_field(&j, "pool", &seen, 2))
			read_ranges(&j, &c.pool, &c.inside, true);
		else if (sfc_json_field(&j, "ports", &seen, 4))
			read_ports(&j, &c);
		else if (sfc_json_field(&j, "ports_per_subscriber", &seen, 8))
			c.share = (uint32_t)sfc_json_int(&j, 0, 65535);
		else if (sfc_json_field(&j, "mapping", &seen, 16))
			c.mapping = (enum mapping)sfc_json_enum(&j, mappings);
		else if (sfc_json_field(&j, "filtering", &seen, 32))
			c.filtering = (enum filtering)sfc_json_enum(&j, filterings);
		else if (sfc_json_field(&j, "hairpin", &seen, 64))
			c.hairpin = sfc_json_bool(&j);
		else if (sfc_json_field(&j, "others", &seen, 128))
			c.pass_others = sfc_json_enum(&j, others) == 1;
		else
			sfc_json_fail(&j, SFC_JSON_UNKNOWN);
	if ((seen & 3) != 3)
		sfc_json_fail(&j, SFC_JSON_MISSING);
	if (c.share > c.ports)
		sfc_json_fail(&j, REFUSED_PORTS);
	if (c.mapping == PER_DESTINATION && c.filtering != BY_ADDRESS_AND_PORT)
		sfc_json_fail(&j, REFUSED_FILTERING);
	int32_t refused = sfc_json_finish(&j);
	if (!refused)
		config = c;
	return refused;
}

#endif
