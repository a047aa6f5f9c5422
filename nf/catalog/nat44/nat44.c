// SPDX-License-Identifier: Apache-2.0
//
// nat44: source NAT of IPv4: inside addresses become addresses and ports of a
// pool, and back.
//
// Service function: nat44
// Expects:    IPv4 packets with a flow; other families pass untouched.
// Verdicts:   Next, Drop(port_exhausted, no_mapping, filtered, bind_failed,
//             not_translatable, wrong_address, no_flow, not_inside).
// Config:     inside and pool (required), ports, ports_per_subscriber, mapping,
//             filtering, hairpin, others.
// State:      32 bytes per flow, see ../translate; mappings are claims that flows
//             hold, see mapping.h. Nothing in the module's own memory.
// Cost:       11 ns/packet of a session at burst 64 in the sandbox, some 600 for
//             the first; 2-core AMD EPYC VM, 2026-11-23,
//             BenchmarkCatalogue/nf=nat44, BenchmarkNewSessions.
// See also:   RFC 4787 (UDP), RFC 5382 (TCP), RFC 5508 (ICMP), RFC 7422 (ports
//             by subscriber), RFC 1624 (checksums).
#include "sfc.h"
#include "sfc_inet.h"
#include "sfc_json.h"
#include "sfc_mem.h"

#include "mapping.h"

enum { COUNTER_SESSIONS, COUNTER_INCOMING, COUNTER_HAIRPINS, COUNTER_MAPPINGS, COUNTER_ERRORS, COUNTER_OTHERS, COUNTER_NOT_IP4 };

// Totals of a burst.
static struct { uint32_t sessions, incoming, hairpins, mappings, errors, others, not_ip4; } count;

SFC_EXPORT(sfc_configure) int32_t sfc_configure(uint32_t ptr, uint32_t len) { return read_config(ptr, len); }

// States of a flow. Zero is one that nothing was decided about.
enum state {
	UNDECIDED,
	UNTOUCHED,  // not ours, and such packets pass
	TRANSLATED, // packets of both directions
	WAITING,    // hairpin: forward packets once the other side let them in
};

static inline struct translation *session_of(const struct sfc_desc *d) { return sfc_slot(d, sizeof(struct translation)); }

// opening is a packet that a session may begin with: what it shows, and what it
// becomes.
struct opening {
	uint32_t i; // its descriptor's index
	const struct sfc_desc *d;
	enum kind kind;
	uint8_t query; // type of the request
	struct ends shown, now;
};

static int32_t bind(const struct opening *o) { return bind_ends(o->i, o->d, o->now, o->query); }

// begin notes the session of a packet whose flow is bound.
static enum reason begin(const struct opening *o, enum state state) {
	struct translation *s = session_of(o->d);
	*s = (struct translation){.state = state, .proto = o->d->proto, .kind = o->kind};
	translation_set(s, o->shown, o->now, o->d->flags & SFC_REVERSE);
	count.sessions++;
	return PASSES;
}

// outgoing_alone translates the source to an end that others may have too, with
// other destinations: the flow's binding alone keeps them apart. Where there are
// no ports to choose from only the address is.
static enum reason outgoing_alone(struct opening *o) {
	struct probes p = probes_start(o->d->proto, o->shown.src);
	for (struct end e; probes_next(&p, &e);) {
		o->now.src = e;
		if (o->kind == QUERY)
			o->now.dst.port = e.port;
		if (o->kind == ADDRESSES)
			o->now.src.port = o->shown.src.port;
		int32_t got = bind(o);
		if (got != SFC_BIND_TAKEN)
			return got == SFC_BIND_OK ? begin(o, TRANSLATED) : refusal(got);
		if (o->kind == ADDRESSES)
			break;
	}
	return PORT_EXHAUSTED;
}

// outgoing translates the source of a packet from the inside, and where it goes
// to the pool the destination as well.
static enum reason outgoing(struct opening *o, bool hairpin) {
	enum state state = TRANSLATED;
	bool fresh;
	o->now.dst = o->shown.dst;
	if (o->kind == ADDRESSES || config.mapping == PER_DESTINATION)
		return hairpin ? NO_MAPPING : outgoing_alone(o);
	if (hairpin && (!config.hairpin || o->kind != PORTS || !mapped_to(o->d->proto, o->shown.dst, &o->now.dst)))
		return NO_MAPPING;
	enum reason r = map(o->i, o->d->proto, o->shown.src, o->shown.dst.addr, &o->now.src, &fresh);
	if (r != PASSES)
		return r;
	count.mappings += fresh;
	if (o->kind == QUERY)
		o->now.dst.port = o->now.src.port;
	if (hairpin && !admits(o->d->proto, o->shown.dst, o->now.src.addr))
		state = WAITING;
	if ((r = refusal(bind(o))) != PASSES)
		return r;
	count.hairpins += hairpin;
	begin(o, state);
	return state == WAITING ? FILTERED : PASSES;
}

// incoming translates the destination of a packet from the outside.
static enum reason incoming(struct opening *o) {
	if (o->kind == ADDRESSES || !mapped_to(o->d->proto, o->shown.dst, &o->now.dst))
		return NO_MAPPING;
	if (!admits(o->d->proto, o->shown.dst, o->shown.src.addr))
		return FILTERED;
	enum reason r = refusal(hold(o->i, o->d->proto, o->now.dst, o->shown.dst, o->shown.src.addr));
	if (r != PASSES)
		return r;
	o->now.src = o->shown.src;
	if (o->kind == QUERY)
		o->now.src.port = o->now.dst.port;
	if ((r = refusal(bind(o))) != PASSES)
		return r;
	count.incoming++;
	return begin(o, TRANSLATED);
}

// open decides about a packet of a flow that was not decided about yet.
static __attribute__((noinline)) enum reason open(uint32_t i, struct sfc_desc *d) {
	struct opening o = {.i = i, .d = d};
	const uint8_t *ip = sfc_header(d, d->l3, sizeof(struct sfc_ip4));
	if (!ip)
		return NOT_TRANSLATABLE;
	if (d->flags & (SFC_LATER_FRAG | SFC_ICMP_ERROR)) // these decide nothing
		return NO_MAPPING;
	uint32_t src = sfc_be32(ip + 12), dst = sfc_be32(ip + 16);
	bool inside = ranges_have(&config.inside, src), to_pool = ranges_have(&config.pool, dst);
	bool out = inside && dst >> 29 != 7 && !ranges_have(&config.inside, dst); // 224.0.0.0/3: to many, or nobody
	if (!out && (inside || !to_pool)) {
		if (!config.pass_others)
			return NOT_INSIDE;
		session_of(d)->state = UNTOUCHED;
		count.others++;
		return PASSES;
	}
	if (!read_ends(d, &o.shown, &o.kind, &o.query))
		return NOT_TRANSLATABLE;
	enum reason r = out ? outgoing(&o, to_pool) : incoming(&o);
	return r == PASSES ? rewrite(d, session_of(d)) : r;
}

// waiting decides about a packet of a hairpin session whose origin has not been
// let in: it is when the other side sends, or has sent to the origin's address.
static __attribute__((noinline)) enum reason waiting(struct sfc_desc *d, struct translation *s) {
	if (!(d->flags & SFC_REVERSE)) {
		struct end outside = pair_ends(s->addrs[0], s->ports[0]).dst;
		if (!admits(s->proto, outside, pair_ends(s->addrs[1], s->ports[1]).src.addr))
			return FILTERED;
	}
	enum reason r = d->flags & SFC_ICMP_ERROR ? NO_MAPPING : rewrite(d, s);
	if (r == PASSES)
		s->state = TRANSLATED;
	return r;
}

static inline enum reason decide(uint32_t i, struct sfc_desc *d) {
	if (!(d->flags & SFC_IPV4)) {
		count.not_ip4++;
		return PASSES;
	}
	if (d->slot == SFC_NO_SLOT)
		return NO_FLOW;
	struct translation *s = session_of(d);
	if (s->state == TRANSLATED) {
		if (!(d->flags & SFC_ICMP_ERROR))
			return rewrite(d, s);
		enum reason r = rewrite_error(d, s);
		count.errors += r == PASSES;
		return r;
	}
	if (s->state == WAITING)
		return waiting(d, s);
	if (s->state == UNDECIDED)
		return open(i, d);
	count.others++;
	return PASSES;
}

SFC_EXPORT(sfc_process) void sfc_process(uint32_t n) {
	struct sfc_desc *d = sfc_descs();
	__builtin_memset(&count, 0, sizeof count);
	for (uint32_t i = 0; i < n; i++, d++) {
		enum reason r = decide(i, d);
		sfc_decide(d, r == PASSES ? SFC_VERDICT_NEXT : SFC_VERDICT_DROP, r);
	}
	sfc_count(COUNTER_SESSIONS, count.sessions);
	sfc_count(COUNTER_INCOMING, count.incoming);
	sfc_count(COUNTER_HAIRPINS, count.hairpins);
	sfc_count(COUNTER_MAPPINGS, count.mappings);
	sfc_count(COUNTER_ERRORS, count.errors);
	sfc_count(COUNTER_OTHERS, count.others);
	sfc_count(COUNTER_NOT_IP4, count.not_ip4);
}
