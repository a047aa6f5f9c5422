// SPDX-License-Identifier: Apache-2.0
//
// flow.h: what is kept of a flow, in its slot. Zero is a flow of which nothing
// came by yet. The first 56 bytes are what packets touch; whose flow it is comes
// behind.
#ifndef FLOWSTAT_FLOW_H
#define FLOWSTAT_FLOW_H

#include "sfc.h"
#include "sfc_inet.h"

// Directions, indices of flow's arrays.
enum { FORWARD, REVERSE };

// How far a handshake has come.
enum handshake {
	NOTHING,
	SYN,          // mark_us is its time
	SYN_TWICE,    // which of them the answer is to cannot be told (Karn)
	SYNACK,       // mark_us is its time
	SYNACK_TWICE, // as SYN_TWICE
	DONE,
};

// Families of a flow.
enum { UNSEEN, NOT_IP, IP4, IP6 };

// Bits of closed, besides FORWARD and REVERSE: who sent a FIN.
enum { SAW_RST = 4, SAW_BOTH_FIN = 1 << FORWARD | 1 << REVERSE };

// flow has the packets of its present period: since it began, or since its last
// record.
struct flow {
	uint64_t octets[2];
	uint32_t packets[2];
	uint64_t start_ns, end_ns; // least and greatest rx_ns
	uint8_t tcp_flags[2];      // the OR of all
	uint8_t proto;
	uint8_t handshake;         // enum handshake; of the flow, as are the next two
	uint32_t mark_us;          // modulo 2^32, see handshake
	uint32_t rtt_us[2];        // SYN to SYN,ACK; SYN,ACK to ACK; 0: not measured
	uint8_t family;
	uint8_t closed;            // FINs and RSTs seen since the flow began
	uint16_t sport, dport;     // of FORWARD; 0 without
	uint16_t icmp;             // type << 8 | code of the first packet
	uint8_t src[16], dst[16];  // of FORWARD, in network byte order; IPv4: 4 bytes
};

_Static_assert(sizeof(struct flow) == 96, "the manifest's flow_state_bytes");
_Static_assert(offsetof(struct flow, rtt_us) == 48 && offsetof(struct flow, sport) == 58, "as the page says");
_Static_assert(offsetof(struct flow, src) == 64, "as the page says");

static inline void copy_bytes(uint8_t *to, const uint8_t *from, uint32_t n) {
	for (uint32_t i = 0; i < n; i++)
		to[i] = from[i];
}

// flow_name notes whose flow it is, from its first packet.
static __attribute__((noinline)) void flow_name(struct flow *f, const struct sfc_desc *d, int dir) {
	const uint8_t *l3, *l4;
	uint8_t *src = dir == FORWARD ? f->src : f->dst, *dst = dir == FORWARD ? f->dst : f->src;
	f->proto = d->proto;
	if (d->flags & SFC_IPV4 && (l3 = sfc_header(d, d->l3, sizeof(struct sfc_ip4)))) {
		f->family = IP4;
		copy_bytes(src, l3 + 12, 4);
		copy_bytes(dst, l3 + 16, 4);
	} else if (d->flags & SFC_IPV6 && (l3 = sfc_header(d, d->l3, sizeof(struct sfc_ip6)))) {
		f->family = IP6;
		copy_bytes(src, l3 + 8, 16);
		copy_bytes(dst, l3 + 24, 16);
	} else {
		f->family = NOT_IP;
		return;
	}
	if (d->flags & SFC_LATER_FRAG || !(l4 = sfc_header(d, d->l4, 4)))
		return;
	uint16_t first = sfc_be16(l4), second = sfc_be16(l4 + 2);
	if (d->proto == SFC_PROTO_TCP || d->proto == SFC_PROTO_UDP || d->proto == SFC_PROTO_SCTP) {
		f->sport = dir == FORWARD ? first : second;
		f->dport = dir == FORWARD ? second : first;
	} else if (d->proto == SFC_PROTO_ICMP || d->proto == SFC_PROTO_ICMPV6) {
		f->icmp = first;
	}
}

#endif
