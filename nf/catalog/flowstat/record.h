// SPDX-License-Identifier: Apache-2.0
//
// record.h: what is kept of a flow, in its slot: one cache line. Zero is a flow
// of which nothing came by yet. The names in the comments are those of IPFIX
// (RFC 5102; "reverse" as in RFC 5103).
#ifndef FLOWSTAT_RECORD_H
#define FLOWSTAT_RECORD_H

#include "sfc.h"

// Directions, indices of record's arrays.
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

struct record {
	uint64_t octets[2];   // octetDeltaCount, reverseOctetDeltaCount
	uint64_t packets[2];  // packetDeltaCount, reversePacketDeltaCount
	uint64_t start_ns;    // flowStartMilliseconds * 10^6
	uint64_t end_ns;      // flowEndMilliseconds * 10^6
	uint8_t tcp_flags[2]; // tcpControlBits, reverseTcpControlBits: the OR of all
	uint8_t proto;        // protocolIdentifier
	uint8_t handshake;    // enum handshake
	uint32_t mark_us;     // modulo 2^32, see handshake
	uint32_t rtt_us[2];   // SYN to SYN,ACK; SYN,ACK to ACK; 0: not measured
};

_Static_assert(sizeof(struct record) == 64, "the manifest's flow_state_bytes");
_Static_assert(offsetof(struct record, tcp_flags) == 48, "as the page says");
_Static_assert(offsetof(struct record, rtt_us) == 56, "as the page says");

#endif
