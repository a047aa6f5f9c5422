// SPDX-License-Identifier: Apache-2.0
//
// sfc_flow.h: what a function may give the flow of a packet: further tuples by
// which packets find it (flow_bind), and keys that nobody else has (claim). Both
// last until the flow ends. A module that calls them lists "flow_bind" among
// its manifest's capabilities and keeps flow state. See nf/ABI.md, "Tuples and
// claims".
//
// They are for the first packet of a flow: some 100 ns each.
#ifndef SFC_FLOW_H
#define SFC_FLOW_H

#include "sfc.h"

// Answers of sfc_flow_bind and sfc_claim.
enum {
	SFC_BIND_OK = 0,      // it is the flow's, from now on or already
	SFC_BIND_TAKEN = 1,   // it is another flow's; of a claim: it has another value
	SFC_BIND_FULL = 2,    // no room
	SFC_BIND_NO_FLOW = 3, // the packet has no flow
	SFC_BIND_LIMIT = 4,   // the flow has two others
	SFC_BIND_BAD = 5,     // no packet has such a tuple, or it lies outside memory
};

// sfc_tuple is what a packet shows of its flow. Zero what is not used.
struct sfc_tuple {
	uint8_t src[16], dst[16]; // network byte order; IPv4 in the first 4 bytes
	uint16_t sport, dport;    // host byte order; of an ICMP query both are its identifier
	uint8_t proto;            // IANA number
	uint8_t family;           // 4 or 6
	uint8_t query;            // type of the request of an ICMP query (8, 13, 15, 17; ICMPv6: 128), else 0
	uint8_t pad;              // 0
};

_Static_assert(sizeof(struct sfc_tuple) == 40, "sfc_tuple is 40 bytes");

#ifdef SFC_NATIVE
// sfc_host is what the host does for a function that is compiled natively. It
// sets the pointers before the first call; without them no packet has a flow.
struct sfc_host {
	void *ctx;
	int32_t (*flow_bind)(void *ctx, uint32_t i, const struct sfc_tuple *t);
	int32_t (*claim)(void *ctx, uint32_t i, uint64_t hi, uint64_t lo, uint64_t value);
	uint64_t (*claim_find)(void *ctx, uint64_t hi, uint64_t lo);
};
extern struct sfc_host sfc_host;

// sfc_flow_bind makes packets with tuple t find the flow of descriptor i of the
// burst under way: t is a packet that travels in the flow's direction after
// translation, and packets the other way are SFC_REVERSE. A flow that has t as
// its own tuple ends.
static inline int32_t sfc_flow_bind(uint32_t i, const struct sfc_tuple *t) {
	return sfc_host.flow_bind ? sfc_host.flow_bind(sfc_host.ctx, i, t) : SFC_BIND_NO_FLOW;
}

// sfc_claim makes the flow of descriptor i hold key = value. Other flows may
// hold the key as well, with the same value; it is free when the last has
// ended. Keys are the function's own, in its chain, on all workers.
static inline int32_t sfc_claim(uint32_t i, uint64_t key_hi, uint64_t key_lo, uint64_t value) {
	return sfc_host.claim ? sfc_host.claim(sfc_host.ctx, i, key_hi, key_lo, value) : SFC_BIND_NO_FLOW;
}

// sfc_claim_find returns the value of a key that some flow holds, else 0.
static inline uint64_t sfc_claim_find(uint64_t key_hi, uint64_t key_lo) {
	return sfc_host.claim_find ? sfc_host.claim_find(sfc_host.ctx, key_hi, key_lo) : 0;
}
#else
__attribute__((import_module("sfc"), import_name("flow_bind")))
int32_t sfc_flow_bind(uint32_t i, const struct sfc_tuple *t);
__attribute__((import_module("sfc"), import_name("claim")))
int32_t sfc_claim(uint32_t i, uint64_t key_hi, uint64_t key_lo, uint64_t value);
__attribute__((import_module("sfc"), import_name("claim_find")))
uint64_t sfc_claim_find(uint64_t key_hi, uint64_t key_lo);
#endif

#endif
