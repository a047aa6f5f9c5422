// SPDX-License-Identifier: Apache-2.0
//
// lb4: a layer-4 load balancer: flows to virtual addresses go to back ends, and
// stay there.
//
// Service function: lb4
// Expects:    IPv4 packets with a flow; other families pass untouched.
// Verdicts:   Next, Drop(no_backend, backend_down, no_service, bind_failed,
//             not_translatable, wrong_address, no_flow, not_service).
// Config:     services (required), table_size, seed, src_mac, others.
// State:      32 bytes per flow: where it goes. Tables are made of the
//             configuration alone, so all instances have the same.
// Cost:       14 ns/packet of a flow at burst 64 in the sandbox, some 350 for
//             the first; 2-core AMD EPYC VM, 2026-11-23, BenchmarkCatalogue/nf=lb4,
//             BenchmarkNewSessions.
// See also:   maglev.h for the choice, ../translate for the rewriting. RFC 1624
//             (checksums), RFC 5508 (ICMP errors).
#include "sfc.h"
#include "sfc_flow.h"
#include "sfc_inet.h"
#include "sfc_json.h"
#include "sfc_mem.h"

enum reason {
	PASSES,
	NO_BACKEND,
	BACKEND_DOWN,
	NO_SERVICE,
	BIND_FAILED,
	NOT_TRANSLATABLE,
	WRONG_ADDRESS,
	NO_FLOW,
	NOT_SERVICE,
};

#include "maglev.h"

enum { COUNTER_FLOWS, COUNTER_MOVED, COUNTER_ERRORS, COUNTER_OTHERS, COUNTER_NOT_IP4 };
enum { TCP_SYN = 2, TCP_RST = 4, TCP_ACK = 16 };

// Totals of a burst.
static struct { uint32_t flows, moved, errors, others, not_ip4; } count;

// States of a flow. Of one to a back end, translation.mark is the back end's
// index when it was looked up last, and translation.bits is BACKWARDS when
// packets to it are against the flow's direction.
enum state { UNDECIDED, UNTOUCHED, TO_NAT, TO_DSR };
enum { BACKWARDS = 1 };

SFC_EXPORT(sfc_configure) int32_t sfc_configure(uint32_t ptr, uint32_t len) {
	int32_t refused = read_config(ptr, len);
	if (refused)
		return refused;
	sfc_heap_reset(&heap);
	for (uint32_t i = 0; i < config.services; i++)
		if (!maglev_build(&config.service[i]))
			return SFC_JSON_MEMORY;
	return 0;
}

static inline struct translation *flow_of(const struct sfc_desc *d) { return sfc_slot(d, sizeof(struct translation)); }

// service_of returns the service that a packet asks for: the one that names most
// of it. vip says whether its destination is any service's address.
static const struct service *service_of(struct end dst, uint8_t proto, bool *vip) {
	const struct service *best = NULL;
	int names = -1;
	*vip = false;
	for (const struct service *s = config.service; s < config.service + config.services; s++) {
		if (s->vip != dst.addr)
			continue;
		*vip = true;
		int n = !!s->port * 2 + !!s->proto;
		if ((s->port && s->port != dst.port) || (s->proto && s->proto != proto) || n <= names)
			continue;
		best = s;
		names = n;
	}
	return best;
}

// to_backend rewrites what goes to a back end.
static enum reason to_backend(struct sfc_desc *d, const struct translation *t, const struct backend *b) {
	if (t->state == TO_NAT)
		return d->flags & SFC_ICMP_ERROR ? rewrite_error(d, t) : rewrite(d, t);
	uint8_t *eth = d->len >= sizeof(struct sfc_eth) ? sfc_frame(d) : NULL;
	if (!eth)
		return NOT_TRANSLATABLE;
	for (int i = 0; i < 6; i++)
		eth[i] = b->mac[i];
	for (int i = 0; i < 6 && config.has_src_mac; i++)
		eth[6 + i] = config.src_mac[i];
	return PASSES;
}

// begin chooses a back end for a flow and sends a packet there.
static enum reason begin(uint32_t i, struct sfc_desc *d, const struct service *s, struct ends shown, enum kind kind, uint8_t query) {
	struct translation *t = flow_of(d);
	const struct backend *b = maglev_pick(s, shown, d->proto);
	if (!b)
		return NO_BACKEND;
	struct ends now = {shown.src, {b->addr, b->port ? b->port : shown.dst.port}};
	if (s->mode == MODE_NAT) {
		int32_t got = bind_ends(i, d, now, query);
		if (got != SFC_BIND_OK)
			return got == SFC_BIND_NO_FLOW ? NO_FLOW : BIND_FAILED;
	}
	*t = (struct translation){
		.state = s->mode == MODE_NAT ? TO_NAT : TO_DSR, .proto = d->proto, .kind = kind,
		.bits = d->flags & SFC_REVERSE ? BACKWARDS : 0, .mark = (uint16_t)(b - config.backend),
	};
	translation_set(t, shown, now, d->flags & SFC_REVERSE);
	return to_backend(d, t, b);
}

// undecided decides about a packet of a flow that was not decided about yet.
static __attribute__((noinline)) enum reason undecided(uint32_t i, struct sfc_desc *d) {
	struct ends shown;
	enum kind kind;
	uint8_t query;
	bool vip;
	const uint8_t *ip = sfc_header(d, d->l3, sizeof(struct sfc_ip4));
	if (!ip)
		return NOT_TRANSLATABLE;
	service_of((struct end){sfc_be32(ip + 16), 0}, d->proto, &vip);
	if (!vip) {
		if (config.drop_others)
			return NOT_SERVICE;
		if (!(d->flags & (SFC_LATER_FRAG | SFC_ICMP_ERROR)))
			flow_of(d)->state = UNTOUCHED;
		count.others++;
		return PASSES;
	}
	if (d->flags & (SFC_LATER_FRAG | SFC_ICMP_ERROR)) // these decide nothing
		return NO_SERVICE;
	if (!read_ends(d, &shown, &kind, &query))
		return NOT_TRANSLATABLE;
	const struct service *s = service_of(shown.dst, d->proto, &vip);
	if (!s)
		return NO_SERVICE;
	enum reason r = begin(i, d, s, shown, kind, query);
	count.flows += r == PASSES;
	return r;
}

// asks is what a packet of the flow to its back end shows.
static inline struct ends asks(const struct translation *t) {
	bool turn = t->bits & BACKWARDS;
	struct ends e = pair_ends(t->addrs[turn], t->ports[turn]);
	return turn ? turned(e) : e;
}

// way_to is where a flow goes, as the bytes lie in packets: what it asked for, and
// who it went to.
struct way_to {
	uint32_t vip, addr;
	uint16_t asked, port;
	uint8_t proto, mode;
};

static inline struct way_to way_to(const struct translation *t) {
	bool turn = t->bits & BACKWARDS;
	uint64_t asked = turn ? turn64(t->addrs[1]) : t->addrs[0], went = turn ? turn64(t->addrs[0]) : t->addrs[1];
	uint32_t asked_ports = turn ? turn32(t->ports[1]) : t->ports[0], went_ports = turn ? turn32(t->ports[0]) : t->ports[1];
	return (struct way_to){
		(uint32_t)(asked >> 32), (uint32_t)(went >> 32), (uint16_t)(asked_ports >> 16), (uint16_t)(went_ports >> 16),
		t->proto, t->state == TO_NAT ? MODE_NAT : MODE_DSR,
	};
}

// serves says whether a back end is where a flow goes, for a service that it asked
// for, and not down.
static inline bool serves(const struct backend *b, struct way_to w) {
	return b->wire_addr == w.addr && b->wire_vip == w.vip && (b->wire_port ? b->wire_port : w.asked) == w.port &&
	       (!b->wire_asked || b->wire_asked == w.asked) && (!b->proto || b->proto == w.proto) && b->mode == w.mode && b->health != DOWN;
}

// search looks for the flow's back end among all.
static __attribute__((noinline)) const struct backend *search(struct translation *t) {
	struct way_to w = way_to(t);
	for (const struct backend *b = config.backend; b < config.backend + config.backends; b++)
		if (serves(b, w)) {
			t->mark = (uint16_t)(b - config.backend);
			return b;
		}
	return NULL;
}

// find returns the flow's back end, NULL when it is down or gone. The index it had
// is right as long as the configuration is the same.
static inline const struct backend *find(struct translation *t) {
	const struct backend *b = config.backend + t->mark;
	return t->mark < config.backends && serves(b, way_to(t)) ? b : search(t);
}

// move sends a flow whose back end is down to another. That one does not know the
// flow's TCP connection: only a new one may go there.
static __attribute__((noinline)) enum reason move(uint32_t i, struct sfc_desc *d, const struct translation *t) {
	struct ends shown, asked = asks(t);
	enum kind kind;
	uint8_t query;
	bool vip;
	const struct service *s = service_of(asked.dst, t->proto, &vip);
	if (!s || d->flags & (SFC_LATER_FRAG | SFC_ICMP_ERROR))
		return BACKEND_DOWN;
	if (!sfc_header(d, d->l3, sizeof(struct sfc_ip4)) || !read_ends(d, &shown, &kind, &query))
		return NOT_TRANSLATABLE;
	if (d->proto != t->proto || pair_addrs(asked) != pair_addrs(shown) || pair_ports(asked) != pair_ports(shown))
		return WRONG_ADDRESS;
	if (d->proto == SFC_PROTO_TCP) {
		const uint8_t *tcp = sfc_header(d, d->l4, sizeof(struct sfc_tcp));
		if ((tcp[13] & (TCP_SYN | TCP_RST | TCP_ACK)) != TCP_SYN)
			return BACKEND_DOWN;
	}
	enum reason r = begin(i, d, s, shown, kind, query);
	count.moved += r == PASSES;
	return r;
}

// follow decides about a packet of a flow that has a back end.
static inline enum reason follow(uint32_t i, struct sfc_desc *d, struct translation *t) {
	if (!!(d->flags & SFC_REVERSE) != (t->bits & BACKWARDS)) { // from the back end
		if (t->state == TO_DSR)
			return PASSES;
		return d->flags & SFC_ICMP_ERROR ? rewrite_error(d, t) : rewrite(d, t);
	}
	const struct backend *b = find(t);
	return b ? to_backend(d, t, b) : move(i, d, t);
}

static inline enum reason decide(uint32_t i, struct sfc_desc *d) {
	if (!(d->flags & SFC_IPV4)) {
		count.not_ip4++;
		return PASSES;
	}
	if (d->slot == SFC_NO_SLOT)
		return NO_FLOW;
	struct translation *t = flow_of(d);
	if (t->state == UNDECIDED)
		return undecided(i, d);
	if (t->state == UNTOUCHED) {
		count.others++;
		return PASSES;
	}
	enum reason r = follow(i, d, t);
	count.errors += r == PASSES && d->flags & SFC_ICMP_ERROR;
	return r;
}

SFC_EXPORT(sfc_process) void sfc_process(uint32_t n) {
	struct sfc_desc *d = sfc_descs();
	memset(&count, 0, sizeof count);
	for (uint32_t i = 0; i < n; i++, d++) {
		enum reason r = decide(i, d);
		sfc_decide(d, r == PASSES ? SFC_VERDICT_NEXT : SFC_VERDICT_DROP, r);
	}
	sfc_count(COUNTER_FLOWS, count.flows);
	sfc_count(COUNTER_MOVED, count.moved);
	sfc_count(COUNTER_ERRORS, count.errors);
	sfc_count(COUNTER_OTHERS, count.others);
	sfc_count(COUNTER_NOT_IP4, count.not_ip4);
}
