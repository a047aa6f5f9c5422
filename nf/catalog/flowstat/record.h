// SPDX-License-Identifier: Apache-2.0
//
// record.h: what is exported of a flow, as the manifest's records say: a flow of
// IPv4 or one of IPv6, for a period of its life.
#ifndef FLOWSTAT_RECORD_H
#define FLOWSTAT_RECORD_H

#include "sfc_emit.h"

#include "flow.h"

enum { LAYOUT_IP4, LAYOUT_IP6 };

// Why a period ended (flowEndReason, RFC 5102).
enum end_reason { IDLE_TIMEOUT = 1, ACTIVE_TIMEOUT = 2, END_DETECTED = 3 };

// record is a record with IPv6 addresses; those of IPv4 follow upon one another.
struct record {
	uint16_t layout, zero;
	uint8_t proto, end_reason;
	uint16_t sport, dport;
	uint16_t tcp_flags[2];
	uint16_t icmp;
	uint64_t start_ms, end_ms;
	uint64_t packets[2], octets[2];
	uint32_t rtt_us[2];
	uint8_t addrs[32];
};

_Static_assert(offsetof(struct record, start_ms) == 16, "as the manifest says");
_Static_assert(offsetof(struct record, addrs) == 72, "as the manifest says");

// record_emit exports the present period of a flow.
static __attribute__((noinline)) void record_emit(const struct flow *f, enum end_reason why) {
	static struct record r;
	uint32_t len = f->family == IP4 ? 4 : 16;
	if (f->family < IP4)
		return;
	r.layout = f->family == IP4 ? LAYOUT_IP4 : LAYOUT_IP6;
	r.proto = f->proto;
	r.end_reason = (uint8_t)why;
	r.sport = f->sport;
	r.dport = f->dport;
	r.icmp = f->icmp;
	r.start_ms = f->start_ns / 1000000;
	r.end_ms = f->end_ns / 1000000;
	for (int dir = FORWARD; dir <= REVERSE; dir++) {
		r.tcp_flags[dir] = f->tcp_flags[dir];
		r.packets[dir] = f->packets[dir];
		r.octets[dir] = f->octets[dir];
		r.rtt_us[dir] = f->rtt_us[dir];
	}
	copy_bytes(r.addrs, f->src, len);
	copy_bytes(r.addrs + len, f->dst, len);
	sfc_emit(&r, (uint32_t)offsetof(struct record, addrs) + 2 * len);
}

#endif
