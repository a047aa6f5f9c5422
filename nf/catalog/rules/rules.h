// SPDX-License-Identifier: Apache-2.0
//
// rules.h: ordered rules as the configuration of acl and firewall states them.
#ifndef RULES_RULES_H
#define RULES_RULES_H

#include "sfc_inet.h"
#include "sfc_json.h"
#include "sfc_mem.h"

#define MAX_RULES 1023 // and the default behind them makes 1024 bits
#define MAX_PORTS 8    // ranges per field
#define PROTO_ANY 256

// Codes of a refused configuration, besides those of sfc_json.h.
enum {
	BAD_PREFIX = SFC_JSON_OWN, // 16: not a prefix
	BAD_FAMILY = 17,           // src and dst are of different families
	BAD_PORTS = 18,            // not a port or a range of ports
	BAD_PROTO = 19,            // ports or flags for a protocol that has none
};

struct range { uint16_t from, to; };

struct ports {
	struct range range[MAX_PORTS];
	uint32_t n; // 0: any packet, also one without ports
};

struct rule {
	struct sfc_prefix src, dst;
	bool has_src, has_dst, deny;
	bool has_flags;
	uint8_t flags_set, flags_clear;
	uint16_t proto; // PROTO_ANY or a number
	struct ports sport, dport;
};

static const char *const action_names[] = {"permit", "deny", NULL};

static void read_prefix(struct sfc_json *j, struct sfc_prefix *out) {
	char text[64];
	uint32_t n = sfc_json_string(j, text, sizeof text);
	if (!sfc_parse_prefix(text, n, out))
		sfc_json_fail(j, BAD_PREFIX);
}

// read_proto reads a name or a number.
static uint16_t read_proto(struct sfc_json *j) {
	static const char *const names[] = {"any", "tcp", "udp", "icmp", "icmpv6", "sctp", NULL};
	static const uint16_t numbers[] = {PROTO_ANY, SFC_PROTO_TCP, SFC_PROTO_UDP,
		SFC_PROTO_ICMP, SFC_PROTO_ICMPV6, SFC_PROTO_SCTP};
	char text[16];
	uint32_t at = 0, v;
	if (sfc_json_type(j) == SFC_JSON_IS_NUMBER)
		return (uint16_t)sfc_json_int(j, 0, 255);
	uint32_t n = sfc_json_string(j, text, sizeof text);
	for (uint32_t i = 0; names[i]; i++)
		if (sfc_text_is(text, n, names[i]))
			return numbers[i];
	if (!sfc_parse_dec(text, n, &at, 255, &v) || at != n)
		sfc_json_fail(j, SFC_JSON_VALUE);
	return (uint16_t)v;
}

// read_range reads 80, "80" or "1024-65535".
static void read_range(struct sfc_json *j, struct ports *p) {
	char text[16];
	uint32_t at = 0, from = 0, to;
	if (p->n == MAX_PORTS) {
		sfc_json_fail_here(j, SFC_JSON_LONG);
		return;
	}
	if (sfc_json_type(j) == SFC_JSON_IS_NUMBER) {
		from = to = (uint32_t)sfc_json_int(j, 0, 65535);
	} else {
		uint32_t n = sfc_json_string(j, text, sizeof text);
		bool ok = sfc_parse_dec(text, n, &at, 65535, &from);
		to = from;
		if (ok && at < n && text[at] == '-') {
			at++;
			ok = sfc_parse_dec(text, n, &at, 65535, &to);
		}
		if (!ok || at != n || to < from)
			sfc_json_fail(j, BAD_PORTS);
	}
	p->range[p->n++] = (struct range){(uint16_t)from, (uint16_t)to};
}

// read_ports_field reads one range or an array of them.
static void read_ports_field(struct sfc_json *j, struct ports *p) {
	if (sfc_json_type(j) != SFC_JSON_IS_ARRAY) {
		read_range(j, p);
		return;
	}
	for (sfc_json_array(j); sfc_json_more(j);)
		read_range(j, p);
	if (p->n == 0)
		sfc_json_fail(j, BAD_PORTS);
}

// read_flags reads an array of flag names into the bits of the TCP header.
static uint8_t read_flags(struct sfc_json *j) {
	static const char *const names[] = {"fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr", NULL};
	uint8_t bits = 0;
	for (sfc_json_array(j); sfc_json_more(j);)
		bits |= (uint8_t)(1u << sfc_json_enum(j, names));
	return bits;
}

static void read_tcp_flags(struct sfc_json *j, struct rule *r) {
	uint32_t seen = 0;
	sfc_json_object(j);
	while (sfc_json_key(j))
		if (sfc_json_field(j, "set", &seen, 1))
			r->flags_set = read_flags(j);
		else if (sfc_json_field(j, "clear", &seen, 2))
			r->flags_clear = read_flags(j);
		else
			sfc_json_fail(j, SFC_JSON_UNKNOWN);
	r->has_flags = true;
}

static bool has_ports(uint16_t proto) {
	return proto == PROTO_ANY || proto == SFC_PROTO_TCP || proto == SFC_PROTO_UDP ||
		proto == SFC_PROTO_SCTP;
}

// read_rule reads one element of rules.
static void read_rule(struct sfc_json *j, struct rule *r) {
	uint32_t seen = 0;
	r->proto = PROTO_ANY;
	sfc_json_object(j);
	while (sfc_json_key(j))
		if (sfc_json_field(j, "action", &seen, 1))
			r->deny = sfc_json_enum(j, action_names);
		else if (sfc_json_field(j, "src", &seen, 2))
			read_prefix(j, &r->src);
		else if (sfc_json_field(j, "dst", &seen, 4))
			read_prefix(j, &r->dst);
		else if (sfc_json_field(j, "proto", &seen, 8))
			r->proto = read_proto(j);
		else if (sfc_json_field(j, "src_ports", &seen, 16))
			read_ports_field(j, &r->sport);
		else if (sfc_json_field(j, "dst_ports", &seen, 32))
			read_ports_field(j, &r->dport);
		else if (sfc_json_field(j, "tcp_flags", &seen, 64))
			read_tcp_flags(j, r);
		else
			sfc_json_fail(j, SFC_JSON_UNKNOWN);
	r->has_src = seen & 2;
	r->has_dst = seen & 4;
	if (!(seen & 1))
		sfc_json_fail(j, SFC_JSON_MISSING);
	if (r->has_src && r->has_dst && r->src.ip6 != r->dst.ip6)
		sfc_json_fail(j, BAD_FAMILY);
	if ((r->sport.n || r->dport.n) && !has_ports(r->proto))
		sfc_json_fail(j, BAD_PROTO);
	if (r->has_flags && r->proto != PROTO_ANY && r->proto != SFC_PROTO_TCP)
		sfc_json_fail(j, BAD_PROTO);
}

// rule_list are the rules of a configuration; they live on the heap.
struct rule_list {
	struct rule *rule;
	uint32_t n;
	bool deny; // the default
};

static struct rule_list rules_start(struct sfc_json *j, struct sfc_heap *h) {
	struct rule_list l = {sfc_heap_alloc(h, sizeof(struct rule) * (MAX_RULES + 1)), 0, false};
	if (!l.rule)
		sfc_json_fail(j, SFC_JSON_MEMORY);
	return l;
}

// rules_field reads the field whose key was read if it is one of the two about
// rules, bits 1 and 2 of seen; false: it is another.
static bool rules_field(struct sfc_json *j, struct rule_list *l, uint32_t *seen) {
	if (sfc_json_field(j, "default", seen, 1)) {
		l->deny = sfc_json_enum(j, action_names);
	} else if (sfc_json_field(j, "rules", seen, 2)) {
		for (sfc_json_array(j); sfc_json_more(j);)
			if (l->n < MAX_RULES)
				read_rule(j, &l->rule[l->n++]);
			else
				sfc_json_fail_here(j, SFC_JSON_LONG);
	} else {
		return false;
	}
	return true;
}

// rules_finish makes the default the last rule.
static void rules_finish(struct rule_list *l) {
	l->rule[l->n++] = (struct rule){.deny = l->deny, .proto = PROTO_ANY};
}

#endif
