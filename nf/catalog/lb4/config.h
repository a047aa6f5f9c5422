// SPDX-License-Identifier: Apache-2.0
//
// config.h: services, their back ends, and the table of each service.
#ifndef LB4_CONFIG_H
#define LB4_CONFIG_H

#include "sfc_inet.h"
#include "sfc_json.h"
#include "sfc_mem.h"

// The function's own codes of a refused configuration.
enum {
	REFUSED_ADDRESS = SFC_JSON_OWN, // not an IPv4 address
	REFUSED_MAC,                    // not a MAC address; missing (dsr), not wanted (nat), two for one address
	REFUSED_TWICE,                  // the same service or back end twice
	REFUSED_PORT,                   // a port where there is none to translate
};

enum mode { MODE_NAT, MODE_DSR };
enum hashed { BY_FLOW, BY_SOURCE };
enum health { UP, DRAINING, DOWN };

#define MAX_SERVICES 64
#define MAX_BACKENDS 1024 // of all services together
#define ANY 0             // protocol or port

struct backend {
	// What its flows show, as the bytes lie in packets.
	uint32_t wire_vip, wire_addr;
	uint16_t wire_asked, wire_port; // ports; 0: any, and as asked
	uint8_t proto;                  // its service's
	uint8_t mode;
	uint8_t health;
	uint8_t weight;
	uint8_t mac[6];
	uint16_t port;
	uint32_t addr;
};

// service is a virtual address. Its back ends lie side by side.
struct service {
	uint32_t vip;
	uint16_t port;
	uint8_t proto;
	uint8_t mode, hashed;
	uint32_t first, n;     // back ends
	const uint16_t *table; // config.size indices of back ends; NULL: none is up
};

SFC_HEAP(heap, 14 << 20);

static struct {
	struct service service[MAX_SERVICES];
	struct backend backend[MAX_BACKENDS];
	uint32_t services, backends;
	uint32_t size; // places in a table, a prime
	uint64_t seed;
	uint8_t src_mac[6];
	bool has_src_mac, drop_others;
} config;

// read_addr reads an IPv4 address.
static uint32_t read_addr(struct sfc_json *j) {
	char text[16];
	uint32_t at = 0, addr = 0, n = sfc_json_string(j, text, sizeof text);
	if (!j->error && (!sfc_parse_ip4(text, n, &at, &addr) || at != n))
		sfc_json_fail(j, REFUSED_ADDRESS);
	return addr;
}

static void read_mac(struct sfc_json *j, uint8_t mac[6]) {
	char text[17];
	uint32_t n = sfc_json_string(j, text, sizeof text);
	if (!j->error && !sfc_parse_mac(text, n, mac))
		sfc_json_fail(j, REFUSED_MAC);
}

enum { SEEN_ADDR = 1, SEEN_PORT = 2, SEEN_MAC = 4, SEEN_WEIGHT = 8, SEEN_STATE = 16 };

// read_backend reads one and returns which of its fields were there.
static uint32_t read_backend(struct sfc_json *j, struct backend *b) {
	static const char *const healths[] = {"up", "draining", "down", NULL};
	uint32_t seen = 0;
	*b = (struct backend){.weight = 1};
	sfc_json_object(j);
	while (sfc_json_key(j))
		if (sfc_json_field(j, "addr", &seen, SEEN_ADDR))
			b->addr = read_addr(j);
		else if (sfc_json_field(j, "port", &seen, SEEN_PORT))
			b->port = (uint16_t)sfc_json_int(j, 1, 65535);
		else if (sfc_json_field(j, "mac", &seen, SEEN_MAC))
			read_mac(j, b->mac);
		else if (sfc_json_field(j, "weight", &seen, SEEN_WEIGHT))
			b->weight = (uint8_t)sfc_json_int(j, 0, 100);
		else if (sfc_json_field(j, "state", &seen, SEEN_STATE))
			b->health = (uint8_t)sfc_json_enum(j, healths);
		else
			sfc_json_fail(j, SFC_JSON_UNKNOWN);
	if (!(seen & SEEN_ADDR))
		sfc_json_fail(j, SFC_JSON_MISSING);
	return seen;
}

// read_backends reads those of a service and returns which fields any had, and
// in all which fields all had.
static uint32_t read_backends(struct sfc_json *j, struct service *s, uint32_t *all) {
	uint32_t any = 0;
	*all = ~0u;
	for (sfc_json_array(j); sfc_json_more(j);) {
		if (config.backends == MAX_BACKENDS) {
			sfc_json_type(j);
			sfc_json_fail(j, SFC_JSON_LONG);
			return any;
		}
		struct backend *b = &config.backend[config.backends];
		uint32_t seen = read_backend(j, b);
		for (uint32_t i = s->first; i < config.backends; i++)
			if (config.backend[i].addr == b->addr && config.backend[i].port == b->port)
				sfc_json_fail(j, REFUSED_TWICE);
		any |= seen;
		*all &= seen;
		config.backends++;
		s->n++;
	}
	return any;
}

static void read_service(struct sfc_json *j) {
	static const char *const protos[] = {"any", "tcp", "udp", NULL};
	static const char *const modes[] = {"nat", "dsr", NULL};
	static const char *const hashes[] = {"five_tuple", "source", NULL};
	static const uint8_t numbers[] = {ANY, SFC_PROTO_TCP, SFC_PROTO_UDP};
	struct service *s = &config.service[config.services];
	uint32_t seen = 0, any = 0, all = 0;
	*s = (struct service){.first = config.backends};
	sfc_json_object(j);
	while (sfc_json_key(j))
		if (sfc_json_field(j, "vip", &seen, 1))
			s->vip = read_addr(j);
		else if (sfc_json_field(j, "port", &seen, 2))
			s->port = (uint16_t)sfc_json_int(j, 1, 65535);
		else if (sfc_json_field(j, "proto", &seen, 4))
			s->proto = numbers[sfc_json_enum(j, protos)];
		else if (sfc_json_field(j, "mode", &seen, 8))
			s->mode = (uint8_t)sfc_json_enum(j, modes);
		else if (sfc_json_field(j, "hash", &seen, 16))
			s->hashed = (uint8_t)sfc_json_enum(j, hashes);
		else if (sfc_json_field(j, "backends", &seen, 32))
			any = read_backends(j, s, &all);
		else
			sfc_json_fail(j, SFC_JSON_UNKNOWN);
	if ((seen & 33) != 33)
		sfc_json_fail(j, SFC_JSON_MISSING);
	if (s->mode == MODE_DSR ? s->n && !(all & SEEN_MAC) : any & SEEN_MAC)
		sfc_json_fail(j, REFUSED_MAC);
	if ((s->port && s->proto == ANY) || (any & SEEN_PORT && (!s->port || s->mode == MODE_DSR)))
		sfc_json_fail(j, REFUSED_PORT);
	for (struct backend *b = config.backend + s->first; b < config.backend + config.backends; b++) {
		b->wire_vip = __builtin_bswap32(s->vip);
		b->wire_addr = __builtin_bswap32(b->addr);
		b->wire_asked = __builtin_bswap16(s->port);
		b->wire_port = __builtin_bswap16(b->port);
		b->proto = s->proto;
		b->mode = s->mode;
	}
	for (struct service *o = config.service; o < s; o++)
		if (o->vip == s->vip && o->port == s->port && o->proto == s->proto)
			sfc_json_fail(j, REFUSED_TWICE);
	config.services++;
}

// check_macs refuses a back end with two MAC addresses: which one a flow's packets
// get must not hang on the service that it is found in.
static void check_macs(struct sfc_json *j) {
	for (const struct backend *a = config.backend; a < config.backend + config.backends; a++)
		for (const struct backend *b = config.backend; b < a; b++)
			if (a->addr == b->addr && a->mode == MODE_DSR && b->mode == MODE_DSR && memcmp(a->mac, b->mac, sizeof a->mac))
				sfc_json_fail(j, REFUSED_MAC);
}

// is_prime says whether n, at most 65537, is one.
static bool is_prime(uint32_t n) {
	for (uint32_t i = 2; i * i <= n; i++)
		if (n % i == 0)
			return false;
	return n > 1;
}

// read_config reads all but builds no tables.
static int32_t read_config(uint32_t ptr, uint32_t len) {
	static const char *const others[] = {"pass", "drop", NULL};
	struct sfc_json j;
	uint32_t seen = 0;
	memset(&config, 0, sizeof config);
	config.size = 65537;
	sfc_json_start(&j, ptr, len);
	sfc_json_object(&j);
	while (sfc_json_key(&j))
		if (sfc_json_field(&j, "services", &seen, 1)) {
			for (sfc_json_array(&j); sfc_json_more(&j);)
				if (config.services < MAX_SERVICES)
					read_service(&j);
				else {
					sfc_json_type(&j);
					sfc_json_fail(&j, SFC_JSON_LONG);
				}
		} else if (sfc_json_field(&j, "table_size", &seen, 2)) {
			config.size = (uint32_t)sfc_json_int(&j, 2, 65537);
			if (!is_prime(config.size))
				sfc_json_fail(&j, SFC_JSON_RANGE);
		} else if (sfc_json_field(&j, "seed", &seen, 4))
			config.seed = (uint64_t)sfc_json_int(&j, 0, INT64_MAX);
		else if (sfc_json_field(&j, "src_mac", &seen, 8)) {
			read_mac(&j, config.src_mac);
			config.has_src_mac = true;
		} else if (sfc_json_field(&j, "others", &seen, 16))
			config.drop_others = sfc_json_enum(&j, others) == 1;
		else
			sfc_json_fail(&j, SFC_JSON_UNKNOWN);
	if (!(seen & 1))
		sfc_json_fail(&j, SFC_JSON_MISSING);
	check_macs(&j);
	return sfc_json_finish(&j);
}

#endif
