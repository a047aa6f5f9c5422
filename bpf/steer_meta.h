/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0 */
/* Structures shared with user space. */
#pragma once

#include "steer_consts.h"

#define META_VERSION 1

/* In front of every frame that goes to an AF_XDP socket: packet.Meta. */
struct sfc_meta {
	u64 rx_ns;
	u32 seq;
	u32 hash;
	u16 path;
	u16 port;
	u16 l3;
	u16 l4;
	u16 flags;
	u8 proto;
	u8 version;
	u16 vlan;
	u16 bucket;
};
_Static_assert(sizeof(struct sfc_meta) == 32, "packet.MetaSize");

/* Flags: packet.Flag*. */
enum {
	FLAG_IPV4 = 1 << 0,
	FLAG_IPV6 = 1 << 1,
	FLAG_VLAN = 1 << 2,
	FLAG_FRAGMENT = 1 << 3,
	FLAG_LATER_FRAG = 1 << 4,
	FLAG_ICMP_ERROR = 1 << 5,
	FLAG_ODD = FLAG_FRAGMENT | FLAG_ICMP_ERROR, /* the headers do not tell the flow */
};

/* What became of the frames of one port on one CPU. Each frame is counted in
 * exactly one of the first ten; one that met the policy for unclaimed frames
 * (passed, forwarded, no_path, no_pair) also in one of the last three.
 */
struct sfc_counters {
	u64 redirected;
	u64 passed;
	u64 forwarded;
	u64 no_path;
	u64 too_long;
	u64 malformed;
	u64 ext_headers;
	u64 no_socket;
	u64 no_pair;
	u64 no_meta;

	u64 not_ip;
	u64 nd;
	u64 unmatched;
	u64 pad[3]; /* two cache lines, so that CPUs do not share one */
};
_Static_assert(sizeof(struct sfc_counters) == 128, "two cache lines");

/* The number that the next frame of a port gets. */
struct sfc_seq {
	u64 next;
	u64 pad[7];
};

/* A bucket of pins: tuples (as hashes) of flows besides their own, and those
 * flows' ownership buckets. Written by user space alone.
 */
struct sfc_pins {
	u32 lock;
	u32 spill; /* entries that looked for a place here and lie further on */
	struct {
		u64 key;   /* 0: nothing to read here */
		u64 value; /* its low half: chain << 16 | bucket */
		u32 refs;
		u32 gen;
	} e[PINS_PER_BUCKET];
};
_Static_assert(sizeof(struct sfc_pins) == 128, "two cache lines");
