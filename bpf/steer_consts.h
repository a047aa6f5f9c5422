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

/* Policies for what no path claims: classify.Policy. */
enum { POLICY_PASS, POLICY_FORWARD, POLICY_DROP };

/* Every port has its own copy of the program with its own constants, and every
 * table a new one. The verifier knows their values and removes what they rule
 * out: a table without port ranges costs nothing for ports.
 */
const volatile u16 cfg_port;      /* index of the ingress port */
const volatile u8 cfg_unmatched;  /* POLICY_* */
const volatile u32 cfg_max_frame; /* packet.MaxFrame */
const volatile u64 cfg_key0;      /* of the flow hash */
const volatile u64 cfg_key1;

/* The shape of the table. Offsets are in bytes into the value of map tables;
 * TBL_NONE marks a dimension that no rule looks at. An address dimension has
 * 2^steps - 1 bounds and then 2^steps classes.
 */
#define TBL_NONE 0xffffffffU
const volatile u32 tbl_words; /* per rule vector; 0: no rules */
const volatile u32 tbl_path;
const volatile u32 tbl_sport;
const volatile u32 tbl_dport;
const volatile u32 tbl_vlan;
const volatile u32 tbl_proto;
const volatile u32 tbl_ingress; /* the class of this port itself */
const volatile u32 tbl_src4, tbl_src4_steps;
const volatile u32 tbl_dst4, tbl_dst4_steps;
const volatile u32 tbl_src6, tbl_src6_steps;
const volatile u32 tbl_dst6, tbl_dst6_steps;
