// SPDX-License-Identifier: Apache-2.0
//
// names.h: the set of listed names. Names are kept as on the wire: lower-case
// labels, each behind its length. The hash of a name runs from its last label
// to its first, so one pass over a query's name yields the hash of every
// parent domain on the way.
#ifndef DNSGUARD_NAMES_H
#define DNSGUARD_NAMES_H

#include "sfc_mem.h"

#define MAX_NAMES 10000
#define MAX_TEXT 254  // bytes of a name in text, the trailing dot included
#define MAX_WIRE 254  // bytes of a name on the wire, without the root's zero
#define MAX_LABELS 127
#define NAME_SLOTS 32768 // of the hash table; power of two, 3 times MAX_NAMES
#define NAMES_BYTES (2 << 20)

// name is a name in wire form: label i starts at at[i].
struct name {
	uint8_t wire[MAX_WIRE];
	uint8_t at[MAX_LABELS];
	uint32_t len, labels;
};

struct name_slot {
	uint32_t hash;
	uint32_t pos; // in bytes[]: one byte of length, then the wire form; 0: free
};

struct names {
	struct name_slot *slots;
	uint8_t *bytes;
	uint32_t used; // of bytes
	uint32_t n;
	uint32_t most_labels; // of any listed name: no longer suffix need be tried
};

// names_init makes an empty set. false: the heap is full.
static bool names_init(struct names *s, struct sfc_heap *h) {
	s->slots = sfc_heap_alloc(h, NAME_SLOTS * sizeof *s->slots);
	s->bytes = sfc_heap_alloc(h, NAMES_BYTES);
	s->used = 1; // position 0 stands for a free slot
	s->n = s->most_labels = 0;
	return s->slots && s->bytes;
}

static inline uint8_t lower(uint8_t c) { return c >= 'A' && c <= 'Z' ? c | 0x20 : c; }

// name_label appends an empty label; name_byte a byte to the label begun last.
// false: the name gets too long (RFC 1035 section 2.3.4).
static inline bool name_label(struct name *n) {
	if (n->len == MAX_WIRE || n->labels == MAX_LABELS)
		return false;
	n->at[n->labels++] = (uint8_t)n->len;
	n->wire[n->len++] = 0;
	return true;
}

static inline bool name_byte(struct name *n, uint8_t c) {
	uint8_t *count = &n->wire[n->at[n->labels - 1]];
	if (n->len == MAX_WIRE || *count == 63)
		return false;
	n->wire[n->len++] = lower(c);
	++*count;
	return true;
}

// label_hash extends a hash by label i (FNV-1a).
static inline uint32_t label_hash(uint32_t hash, const struct name *n, uint32_t i) {
	uint32_t at = n->at[i], end = at + n->wire[at];
	for (; at <= end; at++)
		hash = (hash ^ n->wire[at]) * 0x01000193u;
	return hash;
}

#define HASH_START 0x811c9dc5u

// slot_find returns the slot of the name's suffix from label i on: its own or
// the free one where it belongs. A third of the slots at most is taken.
static struct name_slot *slot_find(const struct names *s, const struct name *n, uint32_t i, uint32_t hash) {
	uint32_t at = n->at[i], len = n->len - at;
	for (uint32_t k = hash ^ hash >> 15;; k++) {
		struct name_slot *slot = &s->slots[k % NAME_SLOTS];
		const uint8_t *have = s->bytes + slot->pos;
		if (!slot->pos || (slot->hash == hash && have[0] == len && !memcmp(have + 1, n->wire + at, len)))
			return slot;
	}
}

// name_parse reads "ads.example" or "ads.example."; false when it is no name:
// ASCII, no empty label, no space or control character. An internationalised
// name is listed in its "xn--" form.
static bool name_parse(struct name *out, const char *text, uint32_t n) {
	bool fresh = true; // a label begins here
	out->len = out->labels = 0;
	for (uint32_t i = 0; i < n; i++) {
		uint8_t c = (uint8_t)text[i];
		if (c == '.') {
			if (fresh)
				return false;
			fresh = true;
			continue;
		}
		if (c <= ' ' || c >= 0x7f || (fresh && !name_label(out)) || !name_byte(out, c))
			return false;
		fresh = false;
	}
	return out->labels > 0;
}

// names_add lists a name; twice is once. false: not a name, or no room.
static bool names_add(struct names *s, const char *text, uint32_t n) {
	struct name name;
	uint32_t hash = HASH_START;
	if (!name_parse(&name, text, n))
		return false;
	for (uint32_t i = name.labels; i--;)
		hash = label_hash(hash, &name, i);
	struct name_slot *slot = slot_find(s, &name, 0, hash);
	s->n++;
	if (slot->pos)
		return true;
	if (s->used + 1 + name.len > NAMES_BYTES)
		return false;
	slot->hash = hash;
	slot->pos = s->used;
	s->bytes[s->used++] = (uint8_t)name.len;
	for (uint32_t i = 0; i < name.len; i++)
		s->bytes[s->used++] = name.wire[i];
	if (name.labels > s->most_labels)
		s->most_labels = name.labels;
	return true;
}

// names_has is true when the name or a parent domain of it is listed.
static bool names_has(const struct names *s, const struct name *name) {
	uint32_t hash = HASH_START, tried = 0;
	for (uint32_t i = name->labels; i-- && tried++ < s->most_labels;) {
		hash = label_hash(hash, name, i);
		if (slot_find(s, name, i, hash)->pos)
			return true;
	}
	return false;
}

#endif
