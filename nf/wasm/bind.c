/* What functions give their flows: further tuples and exclusive keys. Called
 * by the imports sfc.flow_bind, sfc.claim and sfc.claim_find (engine.c), on the
 * worker's thread. Nothing here trusts a guest: descriptors are counted from
 * the host's own record of the burst, and tuples are copies. */
#include <string.h>
#include "pins.h"

#define ROTL(x, b) (((x) << (b)) | ((x) >> (64 - (b))))

/* SipHash-1-3, as in dataplane/packet/hash.go. */
struct sip { uint64_t v0, v1, v2, v3; };

static inline void sip_round(struct sip *h)
{
	h->v0 += h->v1;
	h->v1 = ROTL(h->v1, 13) ^ h->v0;
	h->v0 = ROTL(h->v0, 32);
	h->v2 += h->v3;
	h->v3 = ROTL(h->v3, 16) ^ h->v2;
	h->v0 += h->v3;
	h->v3 = ROTL(h->v3, 21) ^ h->v0;
	h->v2 += h->v1;
	h->v1 = ROTL(h->v1, 17) ^ h->v2;
	h->v2 = ROTL(h->v2, 32);
}

static inline struct sip sip_new(const uint64_t k[2])
{
	return (struct sip){ k[0] ^ 0x736f6d6570736575u, k[1] ^ 0x646f72616e646f6du,
		k[0] ^ 0x6c7967656e657261u, k[1] ^ 0x7465646279746573u };
}

static inline void sip_word(struct sip *h, uint64_t m)
{
	h->v3 ^= m;
	sip_round(h);
	h->v0 ^= m;
}

static inline uint64_t sip_end(struct sip *h, uint64_t length, uint64_t last)
{
	sip_word(h, length << 56 | last);
	h->v2 ^= 0xff;
	sip_round(h);
	sip_round(h);
	sip_round(h);
	return h->v0 ^ h->v1 ^ h->v2 ^ h->v3;
}

static uint64_t word(const uint8_t *p)
{
	uint64_t v;
	memcpy(&v, p, 8);
	return v;
}

enum { ICMP = 1, TCP = 6, UDP = 17, ICMPV6 = 58, SCTP = 132 };

/* Tuple.possible of flow/wire.go. */
static bool possible(const struct sfc_tuple *t)
{
	bool request;
	switch (t->proto) {
	case TCP:
	case UDP:
	case SCTP:
		return t->query == 0;
	case ICMP:
		request = t->query == 8 || t->query == 13 || t->query == 15 || t->query == 17;
		break;
	case ICMPV6:
		request = t->query == 128;
		break;
	default:
		request = false;
	}
	if (t->query != 0)
		return request && t->sport == t->dport;
	return (t->sport | t->dport) == 0;
}

bool sfc_tuple_hash(const uint64_t secret[2], const struct sfc_tuple *t, uint64_t *hash)
{
	if ((t->family != 4 && t->family != 6) || t->pad != 0 || !possible(t))
		return false;
	uint64_t sport = t->sport, dport = t->dport, proto = t->proto;
	struct sip h = sip_new(secret);
	if (t->family == 4) {
		uint64_t a = (uint32_t)word(t->src), b = (uint32_t)word(t->dst);
		if (a > b || (a == b && sport > dport)) {
			uint64_t x = a, p = sport;
			a = b, b = x, sport = dport, dport = p;
		}
		sip_word(&h, b << 32 | a);
		*hash = sip_end(&h, 13, sport | dport << 16 | proto << 32);
		return true;
	}
	const uint8_t *a = t->src, *b = t->dst;
	uint64_t a0 = word(a), a1 = word(a + 8), b0 = word(b), b1 = word(b + 8);
	if (a0 > b0 || (a0 == b0 && (a1 > b1 || (a1 == b1 && sport > dport)))) {
		uint64_t x = a0, y = a1, p = sport;
		a0 = b0, a1 = b1, b0 = x, b1 = y, sport = dport, dport = p;
	}
	sip_word(&h, a0);
	sip_word(&h, a1);
	sip_word(&h, b0);
	sip_word(&h, b1);
	*hash = sip_end(&h, 37, sport | dport << 16 | proto << 32);
	return true;
}

/* The length, 24 bytes, keeps these hashes apart from those of tuples. */
uint64_t sfc_claim_key(const uint64_t secret[2], uint64_t scope, uint64_t hi, uint64_t lo)
{
	struct sip h = sip_new(secret);
	sip_word(&h, scope);
	sip_word(&h, hi);
	sip_word(&h, lo);
	uint64_t key = sip_end(&h, 24, 0);
	return key ? key : 1;
}

/* PinKey and PinValue of dataplane/steer. */
static uint64_t pin_key(uint64_t hash, uint16_t chain)
{
	uint64_t key = hash + chain * 0x9e3779b97f4a7c15u;
	return key ? key : 1;
}

static uint64_t pin_value(const struct sfc_holder *f, uint16_t chain)
{
	return (uint64_t)f->ident << 32 | (uint64_t)chain << 16 | f->bucket;
}

/* The flow of descriptor i, as the host knows it; NULL when it has none. */
static struct sfc_holder *flow_of(struct sfc_binder *b, uint32_t i, uint32_t *slot)
{
	if (i >= b->n)
		return NULL;
	*slot = b->slot[b->idx[i]];
	if (*slot >= b->slots || b->flows[*slot].ident == 0)
		return NULL;
	return &b->flows[*slot];
}

int32_t sfc_binder_bind(struct sfc_binder *b, uint32_t i, const struct sfc_tuple *t)
{
	uint64_t hash;
	uint32_t slot;
	struct sfc_holder *f = flow_of(b, i, &slot);
	if (!f)
		return SFC_BIND_NO_FLOW;
	if (!sfc_tuple_hash(b->secret, t, &hash))
		return SFC_BIND_BAD;
	uint64_t key = pin_key(hash, b->chain), value = pin_value(f, b->chain), have;
	bool limit = f->binds + f->pending >= SFC_MAX_BINDS;
	/* bound has a place for every flow of a burst twice. */
	if (limit || b->nbound >= b->head->room || b->nbound >= sizeof b->bound / sizeof b->bound[0]) {
		if (sfc_pins_lookup(&b->pins, key, &have))
			return have == value ? SFC_BIND_OK : SFC_BIND_TAKEN;
		return limit ? SFC_BIND_LIMIT : SFC_BIND_FULL;
	}
	switch (sfc_pins_insert(&b->pins, key, value, 0)) {
	case SFC_PIN_HELD:
		return SFC_BIND_OK;
	case SFC_PIN_TAKEN:
		return SFC_BIND_TAKEN;
	case SFC_PIN_FULL:
		return SFC_BIND_FULL;
	case SFC_PIN_OK:
		break;
	}
	f->pending++;
	b->bound[b->nbound++] = (struct sfc_bound){ .slot = slot, .ident = f->ident, .tuple = *t };
	return SFC_BIND_OK;
}

/* Whose keys the function under way may name. */
static uint64_t scope_of(const struct sfc_binder *b) { return (uint64_t)b->chain << 32 | b->hop; }

int32_t sfc_binder_claim(struct sfc_binder *b, uint32_t i, uint64_t hi, uint64_t lo, uint64_t value)
{
	uint32_t slot;
	struct sfc_holder *f = flow_of(b, i, &slot);
	if (!f)
		return SFC_BIND_NO_FLOW;
	uint64_t key = sfc_claim_key(b->secret, scope_of(b), hi, lo), have;
	uint64_t *place = NULL;
	for (int k = 0; k < SFC_MAX_CLAIMS; k++) {
		if (f->claims[k] == key)
			return sfc_pins_lookup(&b->claims, key, &have) && have == value ? SFC_BIND_OK : SFC_BIND_TAKEN;
		if (f->claims[k] == 0)
			place = &f->claims[k];
	}
	if (!place)
		return SFC_BIND_LIMIT;
	switch (sfc_pins_insert(&b->claims, key, value, 1)) {
	case SFC_PIN_TAKEN:
		return SFC_BIND_TAKEN;
	case SFC_PIN_FULL:
		return SFC_BIND_FULL;
	case SFC_PIN_OK:
	case SFC_PIN_HELD:
		break;
	}
	*place = key;
	return SFC_BIND_OK;
}

uint64_t sfc_binder_find(struct sfc_binder *b, uint64_t hi, uint64_t lo)
{
	uint64_t value = 0;
	if (b->n > 0)
		sfc_pins_lookup(&b->claims, sfc_claim_key(b->secret, scope_of(b), hi, lo), &value);
	return value;
}
