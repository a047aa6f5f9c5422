// SPDX-License-Identifier: Apache-2.0
//
// mapping.h: which address and port an inside end gets. Mappings are claims,
// which the flows that use them hold; there is no table here.
//
//	MAPPED    protocol, outside end            -> inside end
//	OWNER     protocol, inside end             -> outside end
//	PERMITTED protocol, outside end, remote address -> inside end
//
// A flow holds two: MAPPED and OWNER; where filtering is by address MAPPED and
// PERMITTED.
#ifndef NAT44_MAPPING_H
#define NAT44_MAPPING_H

#include "sfc_flow.h"

enum reason {
	PASSES,
	PORT_EXHAUSTED,
	NO_MAPPING,
	FILTERED,
	BIND_FAILED,
	NOT_TRANSLATABLE,
	WRONG_ADDRESS,
	NO_FLOW,
	NOT_INSIDE,
};

#include "../translate/translate.h"
#include "config.h"

#define PROBES 64 // most ports that are tried

enum claim { MAPPED = 1, OWNER, PERMITTED };

// An end as the value of a claim is never 0.
static inline uint64_t end_value(struct end e) { return 1ull << 48 | (uint64_t)e.addr << 16 | e.port; }
static inline struct end value_end(uint64_t v) { return (struct end){(uint32_t)(v >> 16), (uint16_t)v}; }

static inline uint64_t claim_hi(enum claim what, uint8_t proto, struct end e) {
	return (uint64_t)e.addr << 32 | (uint32_t)e.port << 16 | (uint32_t)proto << 8 | what;
}

// mapped_to returns the inside end of an outside one; false when there is none.
static inline bool mapped_to(uint8_t proto, struct end outside, struct end *inside) {
	uint64_t v = sfc_claim_find(claim_hi(MAPPED, proto, outside), 0);
	*inside = value_end(v);
	return v != 0;
}

// refusal is why a packet is dropped that was refused a claim or a tuple. Its flow
// may be over: a later packet of the same burst began the next of that tuple.
static inline enum reason refusal(int32_t got) {
	return got == SFC_BIND_OK ? PASSES : got == SFC_BIND_NO_FLOW ? NO_FLOW : BIND_FAILED;
}

// admits says whether filtering lets packets from a remote address to an
// outside end that is mapped, though they belong to no session yet.
static inline bool admits(uint8_t proto, struct end outside, uint32_t remote) {
	return config.filtering == BY_NOTHING ||
	       (config.filtering == BY_ADDRESS && sfc_claim_find(claim_hi(PERMITTED, proto, outside), remote));
}

// hold makes the flow of packet i hold a mapping. SFC_BIND_TAKEN: the outside
// end is another's. SFC_BIND_LIMIT from the host: the flow holds two claims
// already, and then they are what it tried before.
static int32_t hold(uint32_t i, uint8_t proto, struct end inside, struct end outside, uint32_t remote) {
	uint64_t value = end_value(inside);
	int32_t got = sfc_claim(i, claim_hi(MAPPED, proto, outside), 0, value);
	if (got == SFC_BIND_LIMIT && sfc_claim_find(claim_hi(MAPPED, proto, outside), 0) == value)
		return SFC_BIND_OK;
	if (got != SFC_BIND_OK)
		return got;
	got = config.filtering == BY_ADDRESS ? sfc_claim(i, claim_hi(PERMITTED, proto, outside), remote, value)
	                                     : sfc_claim(i, claim_hi(OWNER, proto, inside), 0, end_value(outside));
	if (got == SFC_BIND_TAKEN) // another worker was faster: the next packet finds its mapping
		return SFC_BIND_FULL;
	return got == SFC_BIND_LIMIT ? SFC_BIND_OK : got;
}

// probes is a sequence of ports on one outside address.
struct probes {
	uint32_t addr, first, n; // n ports from first on
	uint32_t at, step, k;
	uint16_t own; // tried first, if it is among them
};

// Steps are primes above 65536: every port comes up before one repeats.
static const uint32_t steps[8] = {65537, 65539, 65543, 65551, 65557, 65563, 65579, 65581};

// probes_start chooses the address and the ports that an inside end may have. A
// subscriber, which is an inside address, always gets the same address, and the
// same ports if they are shared out. Ports below 1024 are for ports below 1024,
// and others for others, where there are both (RFC 4787, REQ-3).
static struct probes probes_start(uint8_t proto, struct end inside) {
	struct probes p = {.first = config.port, .n = config.ports, .own = inside.port};
	uint64_t at = (mix(inside.addr) >> 32) * config.pool.addresses >> 32, subscriber = 0;
	if (config.share) {
		uint64_t shares = config.ports / config.share;
		ranges_find(&config.inside, inside.addr, &subscriber);
		subscriber %= shares * config.pool.addresses;
		at = subscriber % config.pool.addresses;
		p.first += (uint32_t)(subscriber / config.pool.addresses) * config.share;
		p.n = config.share;
	}
	p.addr = ranges_get(&config.pool, at);
	uint32_t low = p.first < 1024 ? 1024 - p.first : 0; // how many are below 1024
	low = low < p.n ? low : p.n;
	if (low && low < p.n) {
		p.first += inside.port < 1024 ? 0 : low;
		p.n = inside.port < 1024 ? low : p.n - low;
	}
	uint64_t h = mix((uint64_t)inside.addr << 32 | (uint32_t)inside.port << 16 | proto);
	p.at = (uint32_t)(h & 0xffffffff) % p.n;
	p.step = steps[h >> 61] % p.n;
	return p;
}

// probes_next returns the next port to try; false: enough were tried.
static bool probes_next(struct probes *p, struct end *outside) {
	*outside = (struct end){p->addr, p->own};
	if (p->k == 0 && p->own >= p->first && p->own < p->first + p->n) {
		p->k = 1;
		return true;
	}
	p->k += p->k == 0;
	if (p->k == PROBES || p->k > p->n)
		return false;
	p->k++;
	outside->port = (uint16_t)(p->first + p->at);
	p->at += p->step;
	p->at -= p->at >= p->n ? p->n : 0;
	return true;
}

// existing finds the mapping of an inside end that some flow holds.
static bool existing(uint8_t proto, struct end inside, struct end *outside) {
	if (config.filtering != BY_ADDRESS) {
		uint64_t v = sfc_claim_find(claim_hi(OWNER, proto, inside), 0);
		*outside = value_end(v);
		return v != 0;
	}
	struct probes p = probes_start(proto, inside);
	while (probes_next(&p, outside))
		if (sfc_claim_find(claim_hi(MAPPED, proto, *outside), 0) == end_value(inside))
			return true;
	return false;
}

// map gives the inside end of packet i's flow its mapping, a fresh one if it has
// none, and has the flow hold it.
static enum reason map(uint32_t i, uint8_t proto, struct end inside, uint32_t remote, struct end *outside, bool *fresh) {
	*fresh = false;
	if (existing(proto, inside, outside))
		return refusal(hold(i, proto, inside, *outside, remote));
	struct probes p = probes_start(proto, inside);
	*fresh = true;
	while (probes_next(&p, outside)) {
		int32_t got = hold(i, proto, inside, *outside, remote);
		if (got != SFC_BIND_TAKEN)
			return refusal(got);
	}
	return PORT_EXHAUSTED;
}

#endif
