// SPDX-License-Identifier: Apache-2.0
//
// flowstat: packets and bytes of every flow in both directions, its first and
// last time, the TCP flags seen, and how long the TCP handshake took.
//
// Service function: flowstat
// Expects:    packets with a flow; all others are counted and go on.
// Verdicts:   Next, always.
// Config:     tcp_rtt (default false): time handshakes.
// State:      64 bytes per flow, see record.h. When the flow ends its totals go
//             into the counters of its protocol.
// Cost:       4.5 ns/packet, 6.6 with TCP and tcp_rtt, at burst 64 in the sandbox;
//             2-core AMD EPYC VM, 2026-11-23, BenchmarkCatalogue/nf=flowstat.
// See also:   RFC 7011 and 5102 (IPFIX and its information elements), RFC 5103
//             (both directions in one record).
#include "sfc.h"
#include "sfc_inet.h"
#include "sfc_json.h"
#include "sfc_mem.h"

#include "record.h"

enum {
	COUNTER_FLOWS, COUNTER_FLOWS_ENDED, COUNTER_PACKETS, COUNTER_BYTES, COUNTER_RELATED, COUNTER_NO_FLOW,
	COUNTER_TCP, // flows, packets, bytes of ended flows, and so for each class
	COUNTER_UDP = COUNTER_TCP + 3,
	COUNTER_ICMP = COUNTER_UDP + 3,
	COUNTER_OTHER = COUNTER_ICMP + 3,
	COUNTER_RTT_FLOWS = COUNTER_OTHER + 3,
	COUNTER_RTT_US,
};

// Flags of the TCP header.
enum { TCP_SYN = 2, TCP_RST = 4, TCP_ACK = 16 };

static bool tcp_rtt;

SFC_EXPORT(sfc_configure) int32_t sfc_configure(uint32_t ptr, uint32_t len) {
	struct sfc_json j;
	uint32_t seen = 0;
	bool rtt = false;
	sfc_json_start(&j, ptr, len);
	sfc_json_object(&j);
	while (sfc_json_key(&j))
		if (sfc_json_field(&j, "tcp_rtt", &seen, 1))
			rtt = sfc_json_bool(&j);
		else
			sfc_json_fail(&j, SFC_JSON_UNKNOWN);
	tcp_rtt = rtt;
	return sfc_json_finish(&j);
}

// octets returns the length of the IP packet with its header; at most what the
// frame holds, so that neither padding nor a lie counts.
static inline uint32_t octets(const struct sfc_desc *d) {
	const uint8_t *l3;
	uint32_t size = 0;
	if (d->flags & SFC_IPV4 && (l3 = sfc_header(d, d->l3, sizeof(struct sfc_ip4))))
		size = sfc_be16(l3 + 2);
	else if (d->flags & SFC_IPV6 && (l3 = sfc_header(d, d->l3, sizeof(struct sfc_ip6))))
		size = sfc_be16(l3 + 4) + (uint32_t)sizeof(struct sfc_ip6);
	else
		return 0;
	uint32_t most = sfc_end(d) - d->l3;
	return size < most ? size : most;
}

// elapsed returns the time since the record's mark in us, at least 1; 0 when
// the clock ran backwards.
static inline uint32_t elapsed(const struct record *r, uint32_t now_us) {
	uint32_t us = now_us - r->mark_us;
	return (int32_t)us < 0 ? 0 : us ? us : 1;
}

// time_handshake takes the next step of a handshake, if the packet is one. A
// repeated SYN or SYN,ACK spoils the time to its answer (Karn and Partridge,
// SIGCOMM 1987).
static void time_handshake(struct record *r, uint8_t flags, int dir, uint64_t rx_ns) {
	uint32_t now_us = (uint32_t)(rx_ns / 1000);
	if (flags & TCP_RST) {
		r->handshake = DONE;
	} else if (dir == FORWARD && (flags & (TCP_SYN | TCP_ACK)) == TCP_SYN) {
		if (r->handshake == NOTHING) {
			r->handshake = SYN;
			r->mark_us = now_us;
		} else if (r->handshake == SYN) {
			r->handshake = SYN_TWICE;
		}
	} else if (dir == REVERSE && (flags & (TCP_SYN | TCP_ACK)) == (TCP_SYN | TCP_ACK)) {
		if (r->handshake == SYN)
			r->rtt_us[0] = elapsed(r, now_us);
		if (r->handshake == SYN || r->handshake == SYN_TWICE) {
			r->handshake = SYNACK;
			r->mark_us = now_us;
		} else if (r->handshake == SYNACK) {
			r->handshake = SYNACK_TWICE;
		}
	} else if (dir == FORWARD && (flags & (TCP_SYN | TCP_ACK)) == TCP_ACK) {
		if (r->handshake == SYNACK)
			r->rtt_us[1] = elapsed(r, now_us);
		if (r->handshake == SYNACK || r->handshake == SYNACK_TWICE)
			r->handshake = DONE;
	}
}

// tcp notes the packet's flags.
static inline void tcp(struct record *r, const struct sfc_desc *d, int dir) {
	const uint8_t *l4;
	if (d->flags & SFC_LATER_FRAG || !(l4 = sfc_header(d, d->l4, sizeof(struct sfc_tcp))))
		return;
	uint8_t flags = l4[offsetof(struct sfc_tcp, flags)];
	r->tcp_flags[dir] |= flags;
	if (tcp_rtt && r->handshake != DONE)
		time_handshake(r, flags, dir, d->rx_ns);
}

SFC_EXPORT(sfc_process) void sfc_process(uint32_t n) {
	struct sfc_desc *d = sfc_descs();
	uint32_t flows = 0, packets = 0, related = 0, no_flow = 0;
	uint64_t bytes = 0;

	for (struct sfc_desc *end = d + n; d < end; d++) {
		sfc_next(d);
		if (d->slot == SFC_NO_SLOT) {
			no_flow++;
			continue;
		}
		if (d->flags & SFC_ICMP_ERROR) { // about the flow, not of it
			related++;
			continue;
		}
		struct record *r = sfc_slot(d, sizeof *r);
		int dir = d->flags & SFC_REVERSE ? REVERSE : FORWARD;
		uint32_t size = octets(d);
		if (!(r->packets[FORWARD] | r->packets[REVERSE])) {
			flows++;
			r->start_ns = r->end_ns = d->rx_ns;
			r->proto = d->proto;
		}
		r->octets[dir] += size;
		r->packets[dir]++;
		r->start_ns = d->rx_ns < r->start_ns ? d->rx_ns : r->start_ns;
		r->end_ns = d->rx_ns > r->end_ns ? d->rx_ns : r->end_ns;
		if (d->proto == SFC_PROTO_TCP)
			tcp(r, d, dir);
		packets++;
		bytes += size;
	}
	sfc_count(COUNTER_FLOWS, flows);
	sfc_count(COUNTER_PACKETS, packets);
	sfc_count(COUNTER_BYTES, bytes);
	sfc_count(COUNTER_RELATED, related);
	sfc_count(COUNTER_NO_FLOW, no_flow);
}

// class returns the first of the three counters of a protocol.
static uint32_t class(uint8_t proto) {
	switch (proto) {
	case SFC_PROTO_TCP: return COUNTER_TCP;
	case SFC_PROTO_UDP: return COUNTER_UDP;
	case SFC_PROTO_ICMP: case SFC_PROTO_ICMPV6: return COUNTER_ICMP;
	}
	return COUNTER_OTHER;
}

SFC_EXPORT(sfc_flow_end) void sfc_flow_end(uint32_t slot) {
	const struct record *r = sfc_at(SFC_SLOTS_START + slot * (uint32_t)sizeof *r);
	uint64_t packets = r->packets[FORWARD] + r->packets[REVERSE];
	if (!packets)
		return; // a function in front let nothing of it through
	uint32_t c = class(r->proto);
	sfc_count(COUNTER_FLOWS_ENDED, 1);
	sfc_count(c, 1);
	sfc_count(c + 1, packets);
	sfc_count(c + 2, r->octets[FORWARD] + r->octets[REVERSE]);
	if (r->rtt_us[0] && r->rtt_us[1]) {
		sfc_count(COUNTER_RTT_FLOWS, 1);
		sfc_count(COUNTER_RTT_US, (uint64_t)r->rtt_us[0] + r->rtt_us[1]);
	}
}
