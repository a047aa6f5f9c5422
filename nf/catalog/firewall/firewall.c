// SPDX-License-Identifier: Apache-2.0
//
// firewall: an ordered list of rules permits or denies flows; packets of a
// permitted flow pass in both directions, those of TCP if they fit the connection.
//
// Service function: firewall
// Expects:    packets with a flow; all others are dropped.
// Verdicts:   Next, Drop(denied, invalid_state, out_of_window, no_flow).
// Config:     default and rules, exactly as acl's.
// State:      32 bytes per flow, see tcp.h.
// Cost:       17 ns/packet of established TCP, 4.1 of UDP, at burst 64 in the
//             sandbox; 2-core AMD EPYC VM, 2026-11-23,
//             BenchmarkCatalogue/nf=firewall.
// See also:   tcp.h for TCP, ../rules for the rules. RFC 9293 (TCP), RFC 7323
//             (window scaling), RFC 5961 (blind attacks against TCP).
#include "sfc.h"
#include "sfc_inet.h"
#include "sfc_json.h"
#include "sfc_mem.h"

#include "../rules/lanes.h"
#include "tcp.h"

enum reason { PASSES, DENIED, INVALID_STATE, OUT_OF_WINDOW, NO_FLOW };
enum { COUNTER_FLOWS, COUNTER_ESTABLISHED, COUNTER_RELATED };

SFC_HEAP(heap, 14 << 20);

// Totals of a burst.
static struct { uint32_t flows, established, related; } count;

SFC_EXPORT(sfc_configure) int32_t sfc_configure(uint32_t ptr, uint32_t len) {
	struct sfc_json j;
	struct rule *rules;
	uint32_t n;
	sfc_heap_reset(&heap);
	sfc_json_start(&j, ptr, len);
	rules = rules_read(&j, &heap, &n);
	int32_t refused = sfc_json_finish(&j);
	if (refused)
		return refused;
	return lanes_build(&heap, rules, n) ? 0 : SFC_JSON_MEMORY;
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

// ask_rules asks the rules about all packets that may begin something. Bit i of
// the result: they permit packet i.
static uint64_t ask_rules(uint32_t n) {
	struct sfc_desc *first = sfc_descs();
	uint64_t permitted = 0;
	lanes_clear();
	for (struct sfc_desc *d = first; d < first + n; d++)
		if (d->slot != SFC_NO_SLOT && may_begin(d))
			lanes_add(d);
	for (int ip6 = 0; ip6 < 2; ip6++) {
		if (!lanes[ip6].n)
			continue;
		lanes_search(ip6);
		for (uint32_t i = 0; i < lanes[ip6].n; i++)
			permitted |= (uint64_t)table_permits(&by_family[ip6], lanes[ip6].at, i) << (lanes[ip6].desc[i] - first);
	}
	return permitted;
}

// begin decides about a packet of an undecided flow. It and handshake read the
// segment again: one whose address is passed on would not stay in registers.
static __attribute__((noinline)) enum reason begin(struct conn *c, const struct sfc_desc *d, bool permitted) {
	struct segment s;
	bool reverse = d->flags & SFC_REVERSE;
	if (!permitted)
		return DENIED;
	if (d->proto != SFC_PROTO_TCP) {
		c->state = NOT_TCP;
		count.flows++;
		return PASSES;
	}
	if (d->flags & SFC_LATER_FRAG || !tcp_read(d, &s) || s.flags != TCP_SYN)
		return INVALID_STATE;
	tcp_begin(c, &s, reverse);
	count.flows++;
	return PASSES;
}

// handshake decides about a segment before the origin's SYN was answered.
static __attribute__((noinline)) enum reason handshake(struct conn *c, const struct sfc_desc *d, int from) {
	struct segment segment, *s = &segment;
	if (!tcp_read(d, s))
		return INVALID_STATE;
	if (from == 0 && s->flags == TCP_SYN) { // again, or with another number
		tcp_begin(c, s, c->reverse);
		return PASSES;
	}
	if (from == 0 && s->flags & TCP_RST) { // it gives up
		if (!tcp_acks_syn(c, s->seq))
			return OUT_OF_WINDOW;
		c->state = CLOSED;
		return PASSES;
	}
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

// follow decides about a TCP packet of a permitted flow.
static inline enum reason follow(struct conn *c, const struct sfc_desc *d, bool permitted) {
	struct segment s;
	int from = !!(d->flags & SFC_REVERSE) != c->reverse;
	if (d->proto != SFC_PROTO_TCP)
		return INVALID_STATE;
	if (d->flags & SFC_LATER_FRAG)
		return c->state == CLOSED ? INVALID_STATE : PASSES;
	if (!tcp_read(d, &s))
		return INVALID_STATE;
	if ((c->state == CLOSED || c->fin == 3) && s.flags == TCP_SYN)
		return begin(c, d, permitted); // the next connection of the same ports
	if (c->state == CLOSED)
		return INVALID_STATE;
	if (c->state == SYN_SENT)
		return handshake(c, d, from);
	if (!tcp_fits(c, &s, from))
		return OUT_OF_WINDOW;
	if (s.flags & TCP_RST) {
		c->state = CLOSED;
		return PASSES;
	}
	if (c->state == SYN_RECV && from == 0 && s.flags & TCP_ACK) {
		c->state = OPEN;
		count.established++;
	}
	tcp_advance(c, &s, from);
	return PASSES;
}

static inline enum reason decide(const struct sfc_desc *d, bool permitted) {
	if (d->slot == SFC_NO_SLOT)
		return NO_FLOW;
	struct conn *c = conn_of(d);
	if (d->flags & SFC_ICMP_ERROR) { // about the flow
		if (c->state == UNDECIDED)
			return DENIED;
		count.related++;
		return PASSES;
	}
	if (c->state == NOT_TCP)
		return PASSES;
	return c->state == UNDECIDED ? begin(c, d, permitted) : follow(c, d, permitted);
}

SFC_EXPORT(sfc_process) void sfc_process(uint32_t n) {
	struct sfc_desc *d = sfc_descs();
	uint64_t permitted = ask_rules(n);
	count.flows = count.established = count.related = 0;
	for (struct sfc_desc *end = d + n; d < end; d++, permitted >>= 1) {
		enum reason r = decide(d, permitted & 1);
		sfc_decide(d, r == PASSES ? SFC_VERDICT_NEXT : SFC_VERDICT_DROP, r);
	}
	sfc_count(COUNTER_FLOWS, count.flows);
	sfc_count(COUNTER_ESTABLISHED, count.established);
	sfc_count(COUNTER_RELATED, count.related);
}
