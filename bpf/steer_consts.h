/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0 */
/* Limits, and what is fixed when the program is loaded. */
#pragma once

#include "include/kernel.h"

#ifndef MAX_VLAN_TAGS
#define MAX_VLAN_TAGS 2 /* also in dataplane/packet/headers.go */
#endif
#ifndef MAX_EXT_HEADERS
#define MAX_EXT_HEADERS 8 /* also in dataplane/packet/headers.go */
#endif
#ifndef MAX_WORDS
#define MAX_WORDS 64 /* of a rule vector: classify.MaxRules / 64 */
#endif
#ifndef MAX_STEPS
#define MAX_STEPS 14 /* of an address search: 2^14 > 2 * classify.MaxRules + 1 */
#endif
#ifndef MAX_CHAINS
#define MAX_CHAINS 4096 /* a power of two: bpf.MaxChains */
#endif
#define MAX_PORTS 64   /* a power of two: classify.MaxPorts */
#define MAX_WORKERS 64 /* steer.MaxWorkers */
#define NO_WORKER 0x10000 /* past every key of map xsks */
#define BUCKETS 1024   /* steer.Buckets */
#define OWNER_ONE 256  /* a packet in a word of owners; below it is the worker */

/* Pins: dataplane/steer/pins.go. */
#define PINS_PER_BUCKET 5
#define PIN_REACH 12 /* an entry is in its home bucket or one of the next eleven */
#define PIN_CHAIN 0x9e3779b97f4a7c15ULL /* tells tuples of chains apart */

/* Policies for what no path claims: classify.Policy. */
enum { POLICY_PASS, POLICY_FORWARD, POLICY_DROP };

/* Every port has its own copy of the program with its own constants. The verifier
 * knows their values and removes what they rule out: tables of a shape without
 * port ranges cost nothing for ports.
 */
const volatile u16 cfg_port;      /* index of the ingress port */
const volatile u8 cfg_unmatched;  /* POLICY_* */
const volatile u32 cfg_max_frame; /* packet.MaxFrame */
const volatile u64 cfg_key0;      /* of the flow hash */
const volatile u64 cfg_key1;
const volatile u32 cfg_workers;  /* with one, nobody is looked for */
const volatile u32 cfg_chains;   /* the row of owners behind those of chains */
const volatile u8 cfg_pins;      /* some chain has pins */
const volatile u32 cfg_pin_homes; /* buckets of map pins that are homes of keys */

/* The shape of the tables: what fits into it comes and goes without a new
 * program. Offsets are in bytes into a value of map tables; TBL_NONE marks a
 * dimension that no rule looks at. An address dimension has 2^steps - 1 bounds
 * and then 2^steps classes.
 */
#define TBL_NONE 0xffffffffU
const volatile u32 tbl_words; /* per rule vector; 0: no rules */
const volatile u32 tbl_classes; /* elements of map vectors for each table */
const volatile u32 tbl_claim; /* of each rule, a u32: see CLAIM_* */
const volatile u32 tbl_sport;
const volatile u32 tbl_dport;
const volatile u32 tbl_vlan;
const volatile u32 tbl_proto;
const volatile u32 tbl_ingress;
const volatile u32 tbl_src4, tbl_src4_steps;
const volatile u32 tbl_dst4, tbl_dst4_steps;
const volatile u32 tbl_src6, tbl_src6_steps;
const volatile u32 tbl_dst6, tbl_dst6_steps;

/* What a rule gives a frame: a path in the low 16 bits, then that path's chain,
 * and whether functions of the chain pin flows.
 */
#define CLAIM_CHAIN 16
#define CLAIM_PINS (1U << 30)
