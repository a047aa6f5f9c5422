// SPDX-License-Identifier: Apache-2.0
//
// vectors.h: rules as bit vectors. In every dimension (addresses, ports, kind of
// packet) the bounds of the rules cut the number line into elementary intervals.
// Each interval has a row: bit r says that rule r does not exclude it. A packet
// falls into one interval per dimension; the AND of their rows holds the rules
// that match, and its lowest bit is the first of them.
//
// Rows with more than two words carry a summary in front, one bit per word that
// is not zero, so that most words are never looked at.
#ifndef RULES_VECTORS_H
#define RULES_VECTORS_H

#include "rules.h"

#define PORT_NONE 0x10000 // the port of a packet that shows none
#define KIND_TCP 256      // kinds 256-511: TCP with these flags
#define KINDS 512
#define SMALL_WORDS 2     // rows of this length have no summary

enum { DIM_SRC, DIM_DST, DIM_SPORT, DIM_DPORT, DIM_KIND, DIMS };

typedef uint64_t row2 __attribute__((vector_size(16)));

// dim is one dimension. Interval i begins behind before[i]: the search counts
// how many of before[1...] lie below the key. There are 2^steps of them, in one
// of three widths: IPv6 prefixes of at most 64 bits need only half an address.
struct dim {
	const uint32_t *before32;
	const uint64_t *before64;
	const struct sfc_addr *before128;
	uint32_t steps;
	const uint64_t *rows;
};

struct table {
	struct dim dim[DIMS];
	uint32_t words;        // per row, the summary included
	uint16_t kind[KINDS];  // interval of each kind
	uint64_t deny[16];     // bit r: rule r denies
};

// event: at key, rule begins (+1) or ceases (-1) to match.
struct event {
	struct sfc_addr key;
	uint16_t rule;
	int16_t step;
};

struct events {
	struct event *e;
	uint32_t n;
};

static inline bool addr_less(struct sfc_addr a, struct sfc_addr b) {
	return a.hi != b.hi ? a.hi < b.hi : a.lo < b.lo;
}

static void event_add(struct events *v, struct sfc_addr key, uint32_t rule, int16_t step) {
	v->e[v->n++] = (struct event){key, (uint16_t)rule, step};
}

// event_range says that rule matches keys from a to b, both included. last is
// the dimension's greatest key.
static void event_range(struct events *v, struct sfc_addr a, struct sfc_addr b,
	struct sfc_addr last, uint32_t rule) {
	event_add(v, a, rule, 1);
	if (!addr_less(b, last))
		return;
	b.lo++;
	b.hi += b.lo == 0;
	event_add(v, b, rule, -1);
}

// events_sort is a heap sort by key: no recursion, no worst case.
static void events_sort(struct events *v) {
	struct event *e = v->e, t;
	for (uint32_t build = v->n / 2, n = v->n; n > 1;) {
		if (build) {
			build--;
		} else {
			t = e[--n];
			e[n] = e[0];
			e[0] = t;
		}
		uint32_t root = build;
		t = e[root];
		for (uint32_t child; (child = 2 * root + 1) < n; root = child) {
			if (child + 1 < n && addr_less(e[child].key, e[child + 1].key))
				child++;
			if (!addr_less(t.key, e[child].key))
				break;
			e[root] = e[child];
		}
		e[root] = t;
	}
}

// collect gathers the events of one address or port dimension.
static void collect(struct events *v, const struct rule *rules, uint32_t n, int which, bool ip6) {
	struct sfc_addr first = {0, 0}, last = {0, PORT_NONE};
	if (which == DIM_SRC || which == DIM_DST)
		last = ip6 ? (struct sfc_addr){~0ull, ~0ull} : (struct sfc_addr){0, UINT32_MAX};
	for (uint32_t r = 0; r < n; r++) {
		const struct rule *rule = &rules[r];
		if ((rule->has_src && rule->src.ip6 != ip6) || (rule->has_dst && rule->dst.ip6 != ip6))
			continue; // never matches this family
		if (which == DIM_SRC || which == DIM_DST) {
			const struct sfc_prefix *p = which == DIM_SRC ? &rule->src : &rule->dst;
			if (!(which == DIM_SRC ? rule->has_src : rule->has_dst)) {
				event_range(v, first, last, last, r);
				continue;
			}
			struct sfc_addr m = sfc_prefix_mask(ip6 ? p->bits : p->bits + 96u);
			struct sfc_addr to = {p->addr.hi | ~m.hi, p->addr.lo | ~m.lo};
			event_range(v, p->addr, to, last, r);
			continue;
		}
		const struct ports *p = which == DIM_SPORT ? &rule->sport : &rule->dport;
		if (p->n == 0)
			event_range(v, first, last, last, r);
		for (uint32_t i = 0; i < p->n; i++) {
			struct sfc_addr a = {0, p->range[i].from}, b = {0, p->range[i].to};
			event_range(v, a, b, last, r);
		}
	}
}

// row_close computes the summary of a finished row.
static void row_close(uint64_t *row, uint32_t words) {
	if (words <= SMALL_WORDS)
		return;
	uint64_t sum = 0;
	for (uint32_t w = 1; w < words; w++)
		sum |= (uint64_t)(row[w] != 0) << w;
	row[0] = sum;
}

// row_flip changes the bit of a rule.
static void row_flip(uint64_t *row, uint32_t words, uint32_t rule) {
	row[(words > SMALL_WORDS) + rule / 64] ^= 1ull << (rule % 64);
}

// dim_write makes the search array of 32-bit keys. Places behind the last interval
// hold all ones, which no key is greater than.
static bool dim_write(struct dim *d, struct sfc_heap *h, const struct sfc_addr *starts, uint32_t count) {
	uint32_t places = 1u << d->steps;
	uint32_t *before = sfc_heap_alloc(h, places * sizeof *before);
	if (!before)
		return false;
	for (uint32_t i = 1; i < places; i++)
		before[i] = i < count ? (uint32_t)starts[i].lo - 1 : UINT32_MAX;
	d->before32 = before;
	return true;
}

// dim_write_wide does the same for IPv6 addresses. When every interval begins with
// 64 zero bits, the upper halves decide.
static bool dim_write_wide(struct dim *d, struct sfc_heap *h, const struct sfc_addr *starts, uint32_t count) {
	uint32_t places = 1u << d->steps;
	uint64_t *before64 = sfc_heap_alloc(h, places * sizeof *before64), low = 0;
	struct sfc_addr *before128 = sfc_heap_alloc(h, places * sizeof *before128);
	if (!before64 || !before128)
		return false;
	for (uint32_t i = 1; i < places; i++) {
		before64[i] = i < count ? starts[i].hi - 1 : UINT64_MAX;
		before128[i] = (struct sfc_addr){UINT64_MAX, UINT64_MAX};
		if (i < count) {
			before128[i] = (struct sfc_addr){starts[i].hi - (starts[i].lo == 0), starts[i].lo - 1};
			low |= starts[i].lo;
		}
	}
	d->before64 = low ? NULL : before64;
	d->before128 = before128;
	return true;
}

// dim_build sweeps over the sorted events and emits an interval whenever the set
// of rules changes.
static bool dim_build(struct dim *d, struct sfc_heap *h, const struct events *v, uint32_t words, bool wide) {
	static uint8_t depth[MAX_RULES + 1]; // how many ranges of the rule hold here
	uint32_t count = 0, places;
	d->steps = 0;
	struct sfc_addr *starts = sfc_heap_alloc(h, v->n * sizeof *starts);
	uint64_t *now = sfc_heap_alloc(h, words * sizeof *now);
	uint64_t *rows = sfc_heap_alloc(h, v->n * words * sizeof *rows);
	if (!rows || !starts || !now)
		return false;
	memset(depth, 0, sizeof depth);
	for (uint32_t i = 0; i < v->n;) { // the default is an event at key 0
		struct sfc_addr key = v->e[i].key;
		for (; i < v->n && !addr_less(key, v->e[i].key); i++) {
			uint8_t before = depth[v->e[i].rule];
			depth[v->e[i].rule] = (uint8_t)(before + v->e[i].step);
			if (!before != !depth[v->e[i].rule])
				row_flip(now, words, v->e[i].rule);
		}
		row_close(now, words);
		if (count && !memcmp(now, rows + (count - 1) * words, words * sizeof *now))
			continue;
		memcpy(rows + count * words, now, words * sizeof *now);
		starts[count++] = key;
	}
	sfc_heap_shrink(h, rows, count * words * sizeof *rows);
	for (places = 1; places < count; places *= 2)
		d->steps++;
	d->rows = rows;
	return wide ? dim_write_wide(d, h, starts, count) : dim_write(d, h, starts, count);
}

// kind_matches says whether a rule can match packets of a kind.
static bool kind_matches(const struct rule *r, uint32_t kind) {
	uint32_t proto = kind >= KIND_TCP ? SFC_PROTO_TCP : kind, flags = kind & 0xff;
	if (r->proto != PROTO_ANY && r->proto != proto)
		return false;
	if (!r->has_flags)
		return true;
	return kind >= KIND_TCP && (flags & r->flags_set) == r->flags_set && !(flags & r->flags_clear);
}

// kinds_build gives every kind of packet its row; equal rows are shared.
static bool kinds_build(struct table *t, struct sfc_heap *h, const struct rule *rules, uint32_t n) {
	uint32_t count = 0, words = t->words;
	uint64_t *rows = sfc_heap_alloc(h, KINDS * words * sizeof *rows);
	if (!rows)
		return false;
	for (uint32_t kind = 0; kind < KINDS; kind++) {
		uint64_t *row = rows + count * words;
		memset(row, 0, words * sizeof *row);
		for (uint32_t r = 0; r < n; r++)
			if (kind_matches(&rules[r], kind))
				row_flip(row, words, r);
		row_close(row, words);
		uint32_t same = 0;
		while (memcmp(row, rows + same * words, words * sizeof *row))
			same++;
		t->kind[kind] = (uint16_t)same;
		count += same == count;
	}
	t->dim[DIM_KIND].rows = rows;
	return true;
}

// table_build makes the table of one address family. false: the heap is full.
static bool table_build(struct table *t, struct sfc_heap *h, const struct rule *rules, uint32_t n, bool ip6) {
	struct events v;
	memset(t, 0, sizeof *t);
	t->words = n <= 64 * SMALL_WORDS ? SMALL_WORDS : 2 * ((n + 63) / 64 / 2) + 2;
	v.e = sfc_heap_alloc(h, n * 2 * MAX_PORTS * sizeof *v.e);
	if (!v.e || !kinds_build(t, h, rules, n))
		return false;
	for (int which = DIM_SRC; which < DIM_KIND; which++) {
		v.n = 0;
		collect(&v, rules, n, which, ip6);
		events_sort(&v);
		bool wide = ip6 && (which == DIM_SRC || which == DIM_DST);
		if (!dim_build(&t->dim[which], h, &v, t->words, wide))
			return false;
	}
	for (uint32_t r = 0; r < n; r++)
		t->deny[r / 64] |= (uint64_t)rules[r].deny << (r % 64);
	return true;
}

// DIM_SEARCH defines a function that finds the intervals of n keys: a binary
// search with a fixed number of steps and no branch to mispredict, for four keys
// at a time. Arrays have room for a multiple of four.
#define DIM_SEARCH(name, type, before)                                                           \
	static void name(const struct dim *d, const type *key, uint32_t *at, uint32_t n) {           \
		for (uint32_t i = 0; i < n; i += 4) {                                                    \
			type k0 = key[i], k1 = key[i + 1], k2 = key[i + 2], k3 = key[i + 3];                 \
			uint32_t a0 = 0, a1 = 0, a2 = 0, a3 = 0;                                             \
			for (uint32_t step = d->steps; step--;) {                                            \
				const type *middle = d->before + (1u << step);                                   \
				a0 += (uint32_t)(k0 > middle[a0]) << step;                                       \
				a1 += (uint32_t)(k1 > middle[a1]) << step;                                       \
				a2 += (uint32_t)(k2 > middle[a2]) << step;                                       \
				a3 += (uint32_t)(k3 > middle[a3]) << step;                                       \
			}                                                                                    \
			at[i] = a0, at[i + 1] = a1, at[i + 2] = a2, at[i + 3] = a3;                          \
		}                                                                                        \
	}

DIM_SEARCH(dim_search32, uint32_t, before32)
DIM_SEARCH(dim_search64, uint64_t, before64)

// dim_search128 does the same for whole IPv6 addresses, given in halves.
static void dim_search128(const struct dim *d, const uint64_t *hi, const uint64_t *lo, uint32_t *at, uint32_t n) {
	if (d->before64) {
		dim_search64(d, hi, at, n);
		return;
	}
	for (uint32_t i = 0; i < n; i++) {
		at[i] = 0;
		for (uint32_t step = d->steps; step--;) {
			struct sfc_addr m = d->before128[at[i] + (1u << step)];
			at[i] += (uint32_t)((hi[i] > m.hi) | ((hi[i] == m.hi) & (lo[i] > m.lo))) << step;
		}
	}
}

static inline const uint64_t *row_of(const struct table *t, uint32_t at[][SFC_BURST], int which, uint32_t i) {
	return t->dim[which].rows + at[which][i] * t->words;
}

// table_match ANDs the rows of packet i. It returns the first word that is not
// zero, and in w which one: its lowest bit is the rule that decides. One always
// is: the default.
static inline uint64_t table_match(const struct table *t, uint32_t at[][SFC_BURST], uint32_t i, uint32_t *w) {
	const uint64_t *a = row_of(t, at, DIM_SRC, i), *b = row_of(t, at, DIM_DST, i);
	const uint64_t *c = row_of(t, at, DIM_SPORT, i), *e = row_of(t, at, DIM_DPORT, i);
	const uint64_t *f = row_of(t, at, DIM_KIND, i);
	if (t->words == SMALL_WORDS) {
		row2 m = *(const row2 *)a & *(const row2 *)b & *(const row2 *)c & *(const row2 *)e & *(const row2 *)f;
		*w = m[0] == 0;
		return *w ? m[1] : m[0];
	}
	for (uint64_t sum = a[0] & b[0] & c[0] & e[0] & f[0]; sum; sum &= sum - 1) {
		uint32_t k = (uint32_t)__builtin_ctzll(sum);
		uint64_t first = a[k] & b[k] & c[k] & e[k] & f[k];
		*w = k - 1;
		if (first)
			return first;
	}
	*w = 0;
	return 1;
}

// table_permits says what the rule that decides about packet i says.
static inline bool table_permits(const struct table *t, uint32_t at[][SFC_BURST], uint32_t i) {
	uint32_t w;
	uint64_t first = table_match(t, at, i, &w);
	return !(t->deny[w] & first & -first);
}

// table_first returns the number of the rule that decides about packet i.
static inline uint32_t table_first(const struct table *t, uint32_t at[][SFC_BURST], uint32_t i) {
	uint32_t w;
	uint64_t first = table_match(t, at, i, &w);
	return w * 64 + (uint32_t)__builtin_ctzll(first);
}

#endif
