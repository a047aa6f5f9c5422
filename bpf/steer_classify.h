/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0 */
/* First matching rule by aggregated bit vectors: classify.Table.Lookup (package
 * dataplane/classify) in the kernel, on the same tables.
 */
#pragma once

#include "steer_maps.h"
#include "steer_parse.h"

/* Returns the rule vector of a class of the table whose vectors begin at first. */
static __always_inline const u64 *vector(u32 first, u32 class)
{
	class += first;
	return bpf_map_lookup_elem(&vectors, &class);
}

static __always_inline u16 u16_at(const u8 *t, u32 base, u32 index)
{
	return *(const u16 *)(t + base + index * 2);
}

/* The port is bounded right where it is used: of a number that lies on the stack
 * the verifier of Linux 6.1 knows nothing any more.
 */
static __always_inline u16 port_at(const u8 *t, u32 base, u32 port)
{
	opaque(port);
	return u16_at(t, base, port > NO_PORT ? NO_PORT : port);
}

/* The searches add steps without branching, so that the verifier follows one
 * path and the CPU has nothing to guess.
 */
static __always_inline u16 search4(const u8 *t, u32 base, u32 steps, u32 addr)
{
	u64 pos = 0, below;

	_Pragma("clang loop unroll(full)") for (int k = MAX_STEPS - 1; k >= 0; k--) {
		u64 step = 1ULL << k;

		if (k >= steps)
			continue;
		below = (u64)addr - *(const u32 *)(t + base + (pos + step - 1) * 4);
		below = (s64)below >> 63; /* all ones: addr < bound */
		opaque(below);
		pos += step & ~below;
	}
	return u16_at(t, base + ((1U << steps) - 1) * 4, pos);
}

/* The borrow of a - b - c: bit 63 is set when the difference is negative. */
static __always_inline u64 borrow(u64 a, u64 b, u64 c)
{
	return (~a & b) | (~(a ^ b) & (a - b - c));
}

static __always_inline u16 search6(const u8 *t, u32 base, u32 steps, u64 hi, u64 lo)
{
	u64 pos = 0, below;

	_Pragma("clang loop unroll(full)") for (int k = MAX_STEPS - 1; k >= 0; k--) {
		u64 step = 1ULL << k;
		const u64 *bound;

		if (k >= steps)
			continue;
		bound = (const u64 *)(t + base + (pos + step - 1) * 16);
		below = borrow(lo, bound[1], 0) >> 63;
		below = borrow(hi, bound[0], below);
		below = (s64)below >> 63; /* all ones: address < bound */
		opaque(below);
		pos += step & ~below;
	}
	return u16_at(t, base + ((1U << steps) - 1) * 16, pos);
}

/* ctz without a branch or a table: the bits below the lowest set bit, counted. */
static __always_inline u32 ctz(u64 x)
{
	x = (x & -x) - 1;
	opaque(x); /* else clang knows the idiom, and makes a table of it */
	x -= x >> 1 & 0x5555555555555555ULL;
	x = (x & 0x3333333333333333ULL) + (x >> 2 & 0x3333333333333333ULL);
	x = (x + (x >> 4)) & 0x0f0f0f0f0f0f0f0fULL;
	return x * 0x0101010101010101ULL >> 56;
}

/* Returns what the first rule that matches gives (CLAIM_*), -1 when none does. */
__separate int classify(const struct info *in)
{
	const u64 *v_src = 0, *v_dst = 0, *v_sport = 0, *v_dport = 0;
	const u64 *v_proto = 0, *v_vlan = 0, *v_ingress = 0;
	u64 summary = ~0ULL, word;
	u32 zero = 0, slot, first, w, rule, bit;
	const u64 *turn;
	const u8 *t;

	if (!in || !tbl_words)
		return -1;
	turn = bpf_map_lookup_elem(&active, &zero);
	if (!turn)
		return -1;
	slot = *(const volatile u64 *)turn & 1; /* read once: tables change meanwhile */
	first = slot * tbl_classes;
	t = bpf_map_lookup_elem(&tables, &slot);
	if (!t)
		return -1;

/* Looks a dimension's vector up, if it has one. */
#define DIMENSION(vec, used, class)                                            \
	if (used) {                                                            \
		vec = vector(first, class);                                         \
		if (!vec)                                                      \
			return -1;                                             \
		summary &= vec[0];                                             \
	}
	if (in->flags & FLAG_IPV4) {
		DIMENSION(v_src, tbl_src4 != TBL_NONE,
			  search4(t, tbl_src4, tbl_src4_steps, bswap32((u32)in->src[0])))
		DIMENSION(v_dst, tbl_dst4 != TBL_NONE,
			  search4(t, tbl_dst4, tbl_dst4_steps, bswap32((u32)in->dst[0])))
	} else {
		DIMENSION(v_src, tbl_src6 != TBL_NONE,
			  search6(t, tbl_src6, tbl_src6_steps, bswap64(in->src[0]), bswap64(in->src[1])))
		DIMENSION(v_dst, tbl_dst6 != TBL_NONE,
			  search6(t, tbl_dst6, tbl_dst6_steps, bswap64(in->dst[0]), bswap64(in->dst[1])))
	}
	DIMENSION(v_dport, tbl_dport != TBL_NONE, port_at(t, tbl_dport, in->dport))
	DIMENSION(v_sport, tbl_sport != TBL_NONE, port_at(t, tbl_sport, in->sport))
	DIMENSION(v_proto, tbl_proto != TBL_NONE, u16_at(t, tbl_proto, in->proto & 0xff))
	DIMENSION(v_vlan, tbl_vlan != TBL_NONE, u16_at(t, tbl_vlan, in->vlan & 0x0fff))
	DIMENSION(v_ingress, tbl_ingress != TBL_NONE, u16_at(t, tbl_ingress, cfg_port & (MAX_PORTS - 1)))
#undef DIMENSION

	for (int i = 0; i < MAX_WORDS; i++) {
		if (!summary)
			return -1;
		w = ctz(summary) & (MAX_WORDS - 1);
		summary &= summary - 1;
		if (w >= tbl_words) /* loaded anew: on the stack the verifier forgets it */
			return -1;
		word = ~0ULL;
		if (v_src)
			word &= v_src[1 + w];
		if (v_dst)
			word &= v_dst[1 + w];
		if (v_dport)
			word &= v_dport[1 + w];
		if (v_sport)
			word &= v_sport[1 + w];
		if (v_proto)
			word &= v_proto[1 + w];
		if (v_vlan)
			word &= v_vlan[1 + w];
		if (v_ingress)
			word &= v_ingress[1 + w];
		if (!word)
			continue;
		/* A sum, not an "or" of bits that do not meet: the verifier of
		 * Linux 6.1 loses the bounds of that.
		 */
		rule = w * 64;
		opaque(rule);
		bit = ctz(word) & 63;
		opaque(bit);
		return *(const u32 *)(t + tbl_claim + (rule + bit) * 4);
	}
	return -1;
}
