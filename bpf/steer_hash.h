/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0 */
/* The flow hash: packet.FlowHash64 (dataplane/packet/hash.go) says what it is. */
#pragma once

#include "steer_parse.h"

struct siphash {
	u64 v0, v1, v2, v3;
};

#define rotl(x, b) ((x) << (b) | (x) >> (64 - (b)))

static __always_inline void sip_round(struct siphash *s)
{
	s->v0 += s->v1;
	s->v1 = rotl(s->v1, 13) ^ s->v0;
	s->v0 = rotl(s->v0, 32);
	s->v2 += s->v3;
	s->v3 = rotl(s->v3, 16) ^ s->v2;
	s->v0 += s->v3;
	s->v3 = rotl(s->v3, 21) ^ s->v0;
	s->v2 += s->v1;
	s->v1 = rotl(s->v1, 17) ^ s->v2;
	s->v2 = rotl(s->v2, 32);
}

static __always_inline void sip_word(struct siphash *s, u64 m)
{
	s->v3 ^= m;
	sip_round(s);
	s->v0 ^= m;
}

__separate u64 flow_hash(const struct info *in)
{
	struct siphash s = {
		cfg_key0 ^ 0x736f6d6570736575ULL,
		cfg_key1 ^ 0x646f72616e646f6dULL,
		cfg_key0 ^ 0x6c7967656e657261ULL,
		cfg_key1 ^ 0x7465646279746573ULL,
	};
	u64 a0, a1, b0, b1, sport, dport, proto, t;

	if (!in)
		return 0;
	a0 = in->src[0], a1 = in->src[1];
	b0 = in->dst[0], b1 = in->dst[1];
	sport = (u16)in->sport | in->id, dport = (u16)in->dport | in->id, proto = in->proto;
	if (in->flags & FLAG_ODD)
		sport = dport = proto = 0;
	if (a0 > b0 || (a0 == b0 && (a1 > b1 || (a1 == b1 && sport > dport)))) {
		t = a0, a0 = b0, b0 = t;
		t = a1, a1 = b1, b1 = t;
		t = sport, sport = dport, dport = t;
	}
	t = sport | dport << 16 | proto << 32;
	if (in->flags & FLAG_IPV4) {
		sip_word(&s, b0 << 32 | a0);
		t |= 13ULL << 56;
	} else {
		sip_word(&s, a0);
		sip_word(&s, a1);
		sip_word(&s, b0);
		sip_word(&s, b1);
		t |= 37ULL << 56;
	}
	sip_word(&s, t);
	s.v2 ^= 0xff;
	sip_round(&s);
	sip_round(&s);
	sip_round(&s);
	return s.v0 ^ s.v1 ^ s.v2 ^ s.v3;
}
