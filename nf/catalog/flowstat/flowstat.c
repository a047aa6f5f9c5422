// SPDX-License-Identifier: Apache-2.0
//
// flowstat: packets and bytes of every flow in both directions, its first and
// last time, the TCP flags seen, and how long the TCP handshake took; exported as
// a record when the flow ends, and in between when it lasts.
//
// Service function: flowstat
// Expects:    packets with a flow; all others are counted and go on.
// Verdicts:   Next, always.
// Config:     tcp_rtt (default false): time handshakes. active_timeout (s, default
//             1800): how long a flow lasts until it is reported; 0: to its end.
// State:      96 bytes per flow, see flow.h. When a period of the flow ends its
//             totals go into the counters of its protocol.
// Cost:       4.9 ns/packet, 6.9 with TCP and tcp_rtt, at burst 64 in the sandbox;
//             2-core AMD EPYC VM, 2026-11-23, BenchmarkCatalogue/nf=flowstat.
// See also:   record.h for what is exported. RFC 7011 and 5102 (IPFIX and its
//             information elements), RFC 5103 (both directions in one record).
#include "sfc.h"
#include "sfc_inet.h"
#include "sfc_json.h"
#include "sfc_mem.h"

#include "flow.h"
#include "record.h"

enum {
	COUNTER_FLOWS, COUNTER_FLOWS_ENDED, COUNTER_PACKETS, COUNTER_BYTES, COUNTER_RELATED, COUNTER_NO_FLOW,
	COUNTER_TCP, // flows, packets, bytes of what has ended, and so for each class
	COUNTER_UDP = COUNTER_TCP + 3,
	COUNTER_ICMP = COUNTER_UDP + 3,
	COUNTER_OTHER = COUNTER_ICMP + 3,
	COUNTER_RTT_FLOWS = COUNTER_OTHER + 3,
	COUNTER_RTT_US,
	COUNTER_RECORDS,
};

// Flags of the TCP header.
enum { TCP_FIN = 1, TCP_SYN = 2, TCP_RST = 4, TCP_ACK = 16 };

static bool tcp_rtt;
static uint64_t active_ns; // the longest period of a flow

SFC_EXPORT(sfc_configure) int32_t sfc_configure(uint32_t ptr, uint32_t len) {
	struct sfc_json j;
	uint32_t seen = 0;
	bool rtt = false;
	uint64_t active_s = 1800;
	sfc_json_start(&j, ptr, len);
	sfc_json_object(&j);
	while (sfc_json_key(&j))
		if (sfc_json_field(&j, "tcp_rtt", &seen, 1))
			rtt = sfc_json_bool(&j);
		else if (sfc_json_field(&j, "active_timeout", &seen, 2))
			active_s = (uint64_t)sfc_json_int(&j, 0, 86400);
		else
			sfc_json_fail(&j, SFC_JSON_UNKNOWN);
	int32_t refused = sfc_json_finish(&j);
	if (refused)
		return refused; // what was configured before holds
	tcp_rtt = rtt;
	active_ns = active_s ? active_s * 1000000000ull : UINT64_MAX;
	return 0;
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

// elapsed returns the time since the flow's mark in us, at least 1; 0 when
// the clock ran backwards.
static inline uint32_t elapsed(const struct flow *f, uint32_t now_us) {
	uint32_t us = now_us - f->mark_us;
	return (int32_t)us < 0 ? 0 : us ? us : 1;
}

// time_handshake takes the next step of a handshake, if the packet is one. A
// repeated SYN or SYN,ACK spoils the time to its answer (Karn and Partridge,
// SIGCOMM 1987).
static void time_handshake(struct flow *f, uint8_t flags, int dir, uint64_t rx_ns) {
	uint32_t now_us = (uint32_t)(rx_ns / 1000);
	if (flags & TCP_RST) {
		f->handshake = DONE;
	} else if (dir == FORWARD && (flags & (TCP_SYN | TCP_ACK)) == TCP_SYN) {
		if (f->handshake == NOTHING) {
			f->handshake = SYN;
			f->mark_us = now_us;
		} else if (f->handshake == SYN) {
			f->handshake = SYN_TWICE;
		}
	} else if (dir == REVERSE && (flags & (TCP_SYN | TCP_ACK)) == (TCP_SYN | TCP_ACK)) {
		if (f->handshake == SYN)
			f->rtt_us[0] = elapsed(f, now_us);
		if (f->handshake == SYN || f->handshake == SYN_TWICE) {
			f->handshake = SYNACK;
			f->mark_us = now_us;
		} else if (f->handshake == SYNACK) {
			f->handshake = SYNACK_TWICE;
		}
	} else if (dir == FORWARD && (flags & (TCP_SYN | TCP_ACK)) == TCP_ACK) {
		if (f->handshake == SYNACK)
			f->rtt_us[1] = elapsed(f, now_us);
		if (f->handshake == SYNACK || f->handshake == SYNACK_TWICE)
			f->handshake = DONE;
	}
}

// tcp notes the packet's flags.
static inline void tcp(struct flow *f, const struct sfc_desc *d, int dir) {
	const uint8_t *l4;
	if (d->flags & SFC_LATER_FRAG || !(l4 = sfc_header(d, d->l4, sizeof(struct sfc_tcp))))
		return;
	uint8_t flags = l4[offsetof(struct sfc_tcp, flags)];
	f->tcp_flags[dir] |= flags;
	if (flags & (TCP_FIN | TCP_RST))
		f->closed |= flags & TCP_RST ? SAW_RST : 1u << dir;
	if (tcp_rtt && f->handshake != DONE)
		time_handshake(f, flags, dir, d->rx_ns);
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

// report ends the present period of a flow, if it had any packets.
static __attribute__((noinline)) void report(struct flow *f, enum end_reason why) {
	uint64_t packets = (uint64_t)f->packets[FORWARD] + f->packets[REVERSE];
	uint32_t c = class(f->proto);
	if (!packets)
		return;
	record_emit(f, why);
	sfc_count(COUNTER_RECORDS, f->family >= IP4);
	sfc_count(c + 1, packets);
	sfc_count(c + 2, f->octets[FORWARD] + f->octets[REVERSE]);
	f->octets[FORWARD] = f->octets[REVERSE] = 0;
	f->packets[FORWARD] = f->packets[REVERSE] = 0;
	f->tcp_flags[FORWARD] = f->tcp_flags[REVERSE] = 0;
}

// begin begins a period of a flow: its first, or the next one; or nothing, if the
// clock was set back. It returns whether the flow is new.
static __attribute__((noinline)) bool begin(struct flow *f, const struct sfc_desc *d, int dir) {
	bool fresh = f->family == UNSEEN;
	if (!fresh && d->rx_ns < f->start_ns && f->packets[dir] != UINT32_MAX)
		return false;
	if (fresh)
		flow_name(f, d, dir);
	else
		report(f, ACTIVE_TIMEOUT);
	f->start_ns = f->end_ns = d->rx_ns;
	return fresh;
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
		struct flow *f = sfc_slot(d, sizeof *f);
		int dir = d->flags & SFC_REVERSE ? REVERSE : FORWARD;
		uint32_t size = octets(d);
		uint64_t lasted = d->rx_ns - f->start_ns; // huge when the clock was set back, see begin
		if ((f->family == UNSEEN) | (lasted >= active_ns) | (f->packets[dir] == UINT32_MAX))
			flows += begin(f, d, dir);
		f->octets[dir] += size;
		f->packets[dir]++;
		f->start_ns = d->rx_ns < f->start_ns ? d->rx_ns : f->start_ns;
		f->end_ns = d->rx_ns > f->end_ns ? d->rx_ns : f->end_ns;
		if (d->proto == SFC_PROTO_TCP)
			tcp(f, d, dir);
		packets++;
		bytes += size;
	}
	sfc_count(COUNTER_FLOWS, flows);
	sfc_count(COUNTER_PACKETS, packets);
	sfc_count(COUNTER_BYTES, bytes);
	sfc_count(COUNTER_RELATED, related);
	sfc_count(COUNTER_NO_FLOW, no_flow);
}

SFC_EXPORT(sfc_flow_end) void sfc_flow_end(uint32_t slot) {
	struct flow *f = sfc_at(SFC_SLOTS_START + slot * (uint32_t)sizeof *f);
	if (f->family == UNSEEN)
		return; // a function in front let nothing of it through
	bool closed = f->closed & SAW_RST || (f->closed & SAW_BOTH_FIN) == SAW_BOTH_FIN;
	report(f, closed ? END_DETECTED : IDLE_TIMEOUT);
	sfc_count(COUNTER_FLOWS_ENDED, 1);
	sfc_count(class(f->proto), 1);
	if (f->rtt_us[0] && f->rtt_us[1]) {
		sfc_count(COUNTER_RTT_FLOWS, 1);
		sfc_count(COUNTER_RTT_US, (uint64_t)f->rtt_us[0] + f->rtt_us[1]);
	}
}
