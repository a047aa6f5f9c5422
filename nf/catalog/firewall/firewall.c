// SPDX-License-Identifier: Apache-2.0
//
// firewall: an ordered list of rules permits or denies flows; packets of a
// permitted flow pass in both directions, those of TCP if they fit the connection.
//
// Service function: firewall
// Expects:    packets with a flow; all others are dropped.
// Verdicts:   Next, Drop(denied, invalid_state, out_of_window, no_flow, syn_limit).
// Config:     default and rules, exactly as acl's; pickup ("strict" or "loose",
//             default strict): whether connections that began earlier are taken
//             over; syn_limits: how many connections may be half open, or begin,
//             per source and per destination.
// State:      32 bytes per flow, see tcp.h. The limits' tables are the module's own:
//             lost with the instance, and one set of them per worker.
// Cost:       17 ns/packet of established TCP, 4.1 of UDP, 48 of a SYN that a limit
//             drops, at burst 64 in the sandbox; 2-core AMD EPYC VM, 2026-11-23,
//             BenchmarkCatalogue/nf=firewall.
// See also:   tcp.h for TCP, related.h for ICMP errors, syn.h for the limits, ../rules
//             for the rules. RFC 9293 (TCP), RFC 7323 (window scaling), RFC 5961
//             and 5927 (blind attacks against TCP), RFC 4987 (SYN floods).
#include "sfc.h"
#include "sfc_inet.h"
#include "sfc_json.h"
#include "sfc_mem.h"

#include "../rules/lanes.h"
#include "related.h"
#include "syn.h"
#include "tcp.h"

enum reason { PASSES, DENIED, INVALID_STATE, OUT_OF_WINDOW, NO_FLOW, SYN_LIMIT };

#define COUNTED_RULES 256 // that have counters of their own

enum {
	COUNTER_FLOWS, COUNTER_ESTABLISHED, COUNTER_RELATED, COUNTER_PICKED_UP,
	COUNTER_SYN_OVER_SOURCE, COUNTER_SYN_OVER_DESTINATION,
	COUNTER_RULE_DEFAULT, COUNTER_RULE_OTHERS, COUNTER_RULE_0,
};

SFC_HEAP(heap, 14 << 20);

// Totals of a burst.
static struct { uint32_t flows, established, related; } count;

static struct {
	uint32_t default_rule; // its number
	bool loose;            // pickup
} config;

// rule_of is the number of the rule that decides about each packet of a burst, for
// those that may begin something.
static uint16_t rule_of[SFC_BURST];

#define NO_RULE 0xffff // not an IP packet

SFC_EXPORT(sfc_configure) int32_t sfc_configure(uint32_t ptr, uint32_t len) {
	static const char *const pickups[] = {"strict", "loose", NULL};
	struct sfc_json j;
	uint32_t seen = 0;
	sfc_heap_reset(&heap);
	memset(syn_limits, 0, sizeof syn_limits);
	config.loose = false;
	sfc_json_start(&j, ptr, len);
	struct rule_list rules = rules_start(&j, &heap);
	sfc_json_object(&j);
	while (sfc_json_key(&j))
		if (rules_field(&j, &rules, &seen))
			;
		else if (sfc_json_field(&j, "pickup", &seen, 4))
			config.loose = sfc_json_enum(&j, pickups);
		else if (sfc_json_field(&j, "syn_limits", &seen, 8))
			syn_limits_read(&j, &heap);
		else
			sfc_json_fail(&j, SFC_JSON_UNKNOWN);
	int32_t refused = sfc_json_finish(&j);
	if (refused)
		return refused;
	config.default_rule = rules.n;
	rules_finish(&rules);
	return lanes_build(&heap, &rules) ? 0 : SFC_JSON_MEMORY;
}

static inline struct conn *conn_of(const struct sfc_desc *d) { return sfc_slot(d, sizeof(struct conn)); }

// may_begin says whether the rules may have to decide about a packet: its flow
// is undecided, or it is a SYN, which may begin another connection.
static inline bool may_begin(const struct sfc_desc *d) {
	const uint8_t *l4;
	if (conn_of(d)->state == UNDECIDED)
		return true;
	return d->proto == SFC_PROTO_TCP && !(d->flags & SFC_LATER_FRAG) &&
	       (l4 = sfc_header(d, d->l4, sizeof(struct sfc_tcp))) && (l4[13] & (TCP_SYN | TCP_ACK)) == TCP_SYN;
}

// ask_rules asks the rules about all packets that may begin something: see
// rule_of.
static void ask_rules(uint32_t n) {
	struct sfc_desc *first = sfc_descs();
	lanes_clear();
	for (struct sfc_desc *d = first; d < first + n; d++)
		if (d->slot != SFC_NO_SLOT && may_begin(d)) {
			rule_of[d - first] = NO_RULE;
			lanes_add(d);
		}
	for (int ip6 = 0; ip6 < 2; ip6++) {
		if (!lanes[ip6].n)
			continue;
		lanes_search(ip6);
		for (uint32_t i = 0; i < lanes[ip6].n; i++)
			rule_of[lanes[ip6].desc[i] - first] = (uint16_t)table_first(&by_family[ip6], lanes[ip6].at, i);
	}
}

// rule_permits counts the rule and returns what it says.
static bool rule_permits(uint32_t rule) {
	if (rule == NO_RULE)
		return false;
	sfc_count(rule == config.default_rule ? COUNTER_RULE_DEFAULT :
		rule >= COUNTED_RULES ? COUNTER_RULE_OTHERS : COUNTER_RULE_0 + rule, 1);
	return !(by_family[0].deny[rule / 64] >> (rule % 64) & 1); // both tables have all rules
}

// limit_syn charges a SYN that may pass.
static enum reason limit_syn(const struct sfc_desc *d) {
	int over = syn_limited() ? syn_may_pass(d) : SYN_FITS;
	if (over == SYN_FITS)
		return PASSES;
	sfc_count(over == BY_SOURCE ? COUNTER_SYN_OVER_SOURCE : COUNTER_SYN_OVER_DESTINATION, 1);
	return SYN_LIMIT;
}

// begin decides about a packet of an undecided flow, and about the SYN of the next
// connection of the same ports. It and what follows read the segment again: one
// whose address is passed on would not stay in registers.
static __attribute__((noinline)) enum reason begin(struct conn *c, const struct sfc_desc *d, uint32_t rule) {
	struct segment s;
	bool reverse = d->flags & SFC_REVERSE;
	if (!rule_permits(rule))
		return DENIED;
	if (d->proto != SFC_PROTO_TCP) {
		c->state = NOT_TCP;
		count.flows++;
		return PASSES;
	}
	if (d->flags & SFC_LATER_FRAG || !tcp_read(d, &s))
		return INVALID_STATE;
	if (s.flags == TCP_SYN) {
		enum reason r = limit_syn(d);
		if (r != PASSES)
			return r;
		tcp_begin(c, &s, reverse);
	} else if (config.loose && s.flags == TCP_ACK) {
		tcp_pick_up(c, &s, reverse);
		sfc_count(COUNTER_PICKED_UP, 1);
	} else {
		return INVALID_STATE;
	}
	count.flows++;
	return PASSES;
}

// syn decides about a SYN in a permitted flow.
static __attribute__((noinline)) enum reason syn(struct conn *c, const struct sfc_desc *d, int from, uint32_t rule) {
	struct segment s;
	if (c->state == CLOSED || c->fin == 3)
		return begin(c, d, rule); // the next connection of the same ports
	bool begun = c->state == SYN_SENT || c->state == SYN_BOTH;
	if ((from != 0 && !begun) || !tcp_read(d, &s))
		return INVALID_STATE;
	enum reason r = limit_syn(d);
	if (r != PASSES || !begun)
		return r; // the answering side replies what it has (RFC 5961, section 4)
	if (from != 0)
		tcp_cross(c, &s);
	else if (c->state == SYN_SENT || s.seq + 1 != c->side[0].max_end)
		tcp_begin(c, &s, c->reverse); // again, or with another number
	return PASSES;
}

// handshake decides about a segment that is no SYN before the origin's was
// acknowledged.
static __attribute__((noinline)) enum reason handshake(struct conn *c, const struct sfc_desc *d, int from) {
	struct segment segment, *s = &segment;
	if (!tcp_read(d, s))
		return INVALID_STATE;
	if (from == 0 && s->flags & TCP_RST) { // it gives up, or rejects an ACK as below
		if (tcp_acks_syn(c, s->seq))
			c->state = CLOSED;
		return PASSES;
	}
	if (from == 1 && s->flags == TCP_ACK && s->end == s->seq)
		return PASSES; // of an older connection of the same ports (RFC 9293, section 3.5.1)
	if (from == 0 && c->state == SYN_BOTH && s->flags == (TCP_SYN | TCP_ACK))
		return s->ack == c->side[1].end ? PASSES : OUT_OF_WINDOW;
	if (from == 0 || !(s->flags & TCP_ACK) || !(s->flags & (TCP_SYN | TCP_RST)))
		return INVALID_STATE;
	if (!tcp_acks_syn(c, s->ack))
		return OUT_OF_WINDOW;
	if (s->flags & TCP_RST)
		c->state = CLOSED;
	else
		tcp_answer(c, s);
	return PASSES;
}

// establish notes the end of a handshake.
static __attribute__((noinline)) void establish(struct conn *c, const struct sfc_desc *d) {
	c->state = OPEN;
	count.established++;
	if (syn_limited())
		syn_completed(d);
}

// follow decides about a TCP packet of a permitted flow.
static inline enum reason follow(struct conn *c, const struct sfc_desc *d, const uint16_t *rule) {
	struct segment s;
	int from = !!(d->flags & SFC_REVERSE) != c->reverse;
	if (d->proto != SFC_PROTO_TCP)
		return INVALID_STATE;
	if (d->flags & SFC_LATER_FRAG)
		return c->state == CLOSED ? INVALID_STATE : PASSES;
	if (!tcp_read(d, &s))
		return INVALID_STATE;
	if (s.flags == TCP_SYN)
		return syn(c, d, from, *rule);
	if (c->state == CLOSED)
		return INVALID_STATE;
	if (c->state == SYN_SENT || c->state == SYN_BOTH)
		return handshake(c, d, from);
	if (!tcp_fits(c, &s, from))
		return OUT_OF_WINDOW;
	if (s.flags & TCP_RST) {
		if (tcp_ends(c, &s, from))
			c->state = CLOSED;
		return PASSES;
	}
	if (c->state == SYN_RECV && from == 0 && s.flags & TCP_ACK)
		establish(c, d);
	tcp_advance(c, &s, from);
	return PASSES;
}

static inline enum reason decide(const struct sfc_desc *d, const uint16_t *rule) {
	if (d->slot == SFC_NO_SLOT)
		return NO_FLOW;
	struct conn *c = conn_of(d);
	if (d->flags & SFC_ICMP_ERROR) { // about the flow
		if (c->state == UNDECIDED)
			return DENIED;
		if (c->state != NOT_TCP && !related_fits(c, d))
			return OUT_OF_WINDOW;
		count.related++;
		return PASSES;
	}
	if (c->state == NOT_TCP)
		return PASSES;
	return c->state == UNDECIDED ? begin(c, d, *rule) : follow(c, d, rule);
}

SFC_EXPORT(sfc_process) void sfc_process(uint32_t n) {
	struct sfc_desc *d = sfc_descs();
	const uint16_t *rule = rule_of;
	ask_rules(n);
	count.flows = count.established = count.related = 0;
	for (struct sfc_desc *end = d + n; d < end; d++, rule++) {
		enum reason r = decide(d, rule);
		sfc_decide(d, r == PASSES ? SFC_VERDICT_NEXT : SFC_VERDICT_DROP, r);
	}
	sfc_count(COUNTER_FLOWS, count.flows);
	sfc_count(COUNTER_ESTABLISHED, count.established);
	sfc_count(COUNTER_RELATED, count.related);
}
