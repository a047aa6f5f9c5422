// SPDX-License-Identifier: Apache-2.0
//
// sfc_json.h: a strict pull parser (RFC 8259) for configurations. It allocates
// nothing and copies only strings and keys.
//
//	struct sfc_json j;
//	uint32_t seen = 0;
//	sfc_json_start(&j, ptr, len);
//	sfc_json_object(&j);
//	while (sfc_json_key(&j))
//		if (sfc_json_field(&j, "rate", &seen, 1))
//			rate = sfc_json_int(&j, 1, 1000000);
//		else if (sfc_json_field(&j, "names", &seen, 2))
//			for (sfc_json_array(&j); sfc_json_more(&j);)
//				n = sfc_json_string(&j, buf, sizeof buf);
//		else
//			sfc_json_fail(&j, SFC_JSON_UNKNOWN);
//	return sfc_json_finish(&j);
//
// The first error sticks: from then on every call returns 0 or false at once, so
// loops end and only sfc_json_finish needs a look. Stricter than RFC 8259 where
// it helps a configuration: fields may not repeat and numbers are integers.
#ifndef SFC_JSON_H
#define SFC_JSON_H

#include "sfc.h"
#include "sfc_text.h"

// Codes of a refused configuration. A function's own start at SFC_JSON_OWN.
enum {
	SFC_JSON_OK = 0,
	SFC_JSON_SYNTAX = 1,   // not JSON, or not UTF-8
	SFC_JSON_TYPE = 2,     // another type is wanted here
	SFC_JSON_UNKNOWN = 3,  // no such field
	SFC_JSON_REPEATED = 4, // the field was there before
	SFC_JSON_RANGE = 5,    // number out of range, or not an integer
	SFC_JSON_VALUE = 6,    // string that stands for nothing known
	SFC_JSON_LONG = 7,     // string or array too long
	SFC_JSON_DEPTH = 8,    // nested too deep
	SFC_JSON_MISSING = 9,  // a required field is missing from the object that ends here
	SFC_JSON_MEMORY = 10,  // the function's heap is full
	SFC_JSON_OWN = 16,
};

#define SFC_JSON_MAX_DEPTH 16 // arrays and objects inside one another
#define SFC_JSON_MAX_KEY 32   // bytes of a key; longer ones match no field

// Types of the next value.
enum sfc_json_type {
	SFC_JSON_IS_NOTHING, // none, or an error
	SFC_JSON_IS_NULL,
	SFC_JSON_IS_BOOL,
	SFC_JSON_IS_NUMBER,
	SFC_JSON_IS_STRING,
	SFC_JSON_IS_ARRAY,
	SFC_JSON_IS_OBJECT,
};

struct sfc_json {
	const uint8_t *start, *p, *end;
	const uint8_t *value; // where the value read last begins: errors point there
	uint8_t error;        // the first error, SFC_JSON_...
	bool first;           // nothing of the innermost container was read yet
	uint8_t depth;
	uint32_t objects;     // bit d: the container at depth d is an object
	uint32_t key_len;
	char key[SFC_JSON_MAX_KEY];
};

// sfc_json_fail records an error at the value read last, unless there was one.
static inline void sfc_json_fail(struct sfc_json *j, uint8_t code) {
	if (j->error)
		return;
	j->error = code;
	j->end = j->p; // nothing more to read
}

static inline void sfc_json_fail_here(struct sfc_json *j, uint8_t code) {
	if (!j->error)
		j->value = j->p;
	sfc_json_fail(j, code);
}

static inline void sfc_json_space(struct sfc_json *j) {
	while (j->p < j->end && (*j->p == ' ' || *j->p == '\n' || *j->p == '\t' || *j->p == '\r'))
		j->p++;
}

// sfc_json_start begins to read len bytes at guest address ptr.
static inline void sfc_json_start(struct sfc_json *j, uint32_t ptr, uint32_t len) {
	*j = (struct sfc_json){0};
	j->start = j->p = j->value = sfc_at(ptr);
	j->end = j->p + len;
}

// sfc_json_finish returns what sfc_configure must return: 0, or the error's code
// with its byte offset in the configuration above: code | offset << 8.
static inline int32_t sfc_json_finish(struct sfc_json *j) {
	sfc_json_space(j);
	if (!j->error && (j->p != j->end || j->depth))
		sfc_json_fail_here(j, SFC_JSON_SYNTAX);
	if (!j->error)
		return 0;
	return (int32_t)(j->error | (uint32_t)(j->value - j->start) << 8);
}

// sfc_json_type returns the type of the next value and marks its place.
static inline enum sfc_json_type sfc_json_type(struct sfc_json *j) {
	sfc_json_space(j);
	if (j->error || j->p == j->end) {
		sfc_json_fail_here(j, SFC_JSON_SYNTAX);
		return SFC_JSON_IS_NOTHING;
	}
	j->value = j->p;
	switch (*j->p) {
	case 'n': return SFC_JSON_IS_NULL;
	case 't': case 'f': return SFC_JSON_IS_BOOL;
	case '"': return SFC_JSON_IS_STRING;
	case '[': return SFC_JSON_IS_ARRAY;
	case '{': return SFC_JSON_IS_OBJECT;
	case '-': return SFC_JSON_IS_NUMBER;
	}
	if (*j->p >= '0' && *j->p <= '9')
		return SFC_JSON_IS_NUMBER;
	sfc_json_fail(j, SFC_JSON_SYNTAX);
	return SFC_JSON_IS_NOTHING;
}

// sfc_json_want is true when the next value has the type.
static inline bool sfc_json_want(struct sfc_json *j, enum sfc_json_type want) {
	enum sfc_json_type is = sfc_json_type(j);
	if (is != want)
		sfc_json_fail(j, SFC_JSON_TYPE);
	return !j->error;
}

static inline bool sfc_json_word(struct sfc_json *j, const char *word) {
	for (; *word; word++, j->p++)
		if (j->p == j->end || *j->p != (uint8_t)*word) {
			sfc_json_fail_here(j, SFC_JSON_SYNTAX);
			return false;
		}
	j->first = false;
	return true;
}

// sfc_json_null and sfc_json_bool read one.
static inline void sfc_json_null(struct sfc_json *j) {
	if (sfc_json_want(j, SFC_JSON_IS_NULL))
		sfc_json_word(j, "null");
}

static inline bool sfc_json_bool(struct sfc_json *j) {
	if (!sfc_json_want(j, SFC_JSON_IS_BOOL))
		return false;
	bool is = *j->p == 't';
	return sfc_json_word(j, is ? "true" : "false") && is;
}

// sfc_json_int reads an integer in [min, max]; min when it is refused.
static inline int64_t sfc_json_int(struct sfc_json *j, int64_t min, int64_t max) {
	if (!sfc_json_want(j, SFC_JSON_IS_NUMBER))
		return min;
	bool minus = *j->p == '-', large = false;
	const uint8_t *digits = j->p += minus;
	uint64_t v = 0;
	for (; j->p < j->end && *j->p >= '0' && *j->p <= '9'; j->p++) {
		large |= v > (UINT64_MAX - 9) / 10;
		v = v * 10 + (*j->p - '0');
	}
	if (j->p == digits || (j->p - digits > 1 && *digits == '0')) {
		sfc_json_fail_here(j, SFC_JSON_SYNTAX);
		return min;
	}
	bool whole = j->p == j->end || (*j->p != '.' && (*j->p | 0x20) != 'e');
	int64_t n = (int64_t)(minus ? 0 - v : v);
	if (large || v > INT64_MAX || !whole || n < min || n > max) {
		sfc_json_fail(j, SFC_JSON_RANGE);
		return min;
	}
	j->first = false;
	return n;
}

// sfc_json_text reads the string at p (its quote) and returns its length in
// bytes; only what fits cap is written.
static inline uint32_t sfc_json_text(struct sfc_json *j, char *out, uint32_t cap) {
	uint32_t n = 0;
	uint8_t rune[4];
	int len;
	for (j->p++; (len = sfc_text_rune(&j->p, j->end, rune)) > 0; n += (uint32_t)len)
		for (int i = 0; i < len; i++)
			if (n + (uint32_t)i < cap)
				out[n + (uint32_t)i] = (char)rune[i];
	if (len < 0)
		sfc_json_fail_here(j, SFC_JSON_SYNTAX);
	return n;
}

// sfc_json_string reads a string of at most cap bytes and returns its length.
// There is no zero byte behind it.
static inline uint32_t sfc_json_string(struct sfc_json *j, char *out, uint32_t cap) {
	if (!sfc_json_want(j, SFC_JSON_IS_STRING))
		return 0;
	uint32_t n = sfc_json_text(j, out, cap);
	if (n > cap)
		sfc_json_fail(j, SFC_JSON_LONG);
	j->first = false;
	return j->error ? 0 : n;
}

static inline bool sfc_json_enter(struct sfc_json *j, enum sfc_json_type type) {
	if (!sfc_json_want(j, type))
		return false;
	if (j->depth == SFC_JSON_MAX_DEPTH) {
		sfc_json_fail(j, SFC_JSON_DEPTH);
		return false;
	}
	j->p++;
	j->depth++;
	j->objects &= ~(1u << j->depth);
	j->objects |= (uint32_t)(type == SFC_JSON_IS_OBJECT) << j->depth;
	j->first = true;
	return true;
}

// sfc_json_array and sfc_json_object enter one. Leave it by asking for more
// until there is none.
static inline bool sfc_json_array(struct sfc_json *j) { return sfc_json_enter(j, SFC_JSON_IS_ARRAY); }
static inline bool sfc_json_object(struct sfc_json *j) { return sfc_json_enter(j, SFC_JSON_IS_OBJECT); }

// sfc_json_more is true when the array or object entered last has another
// element; when not, it leaves it.
static inline bool sfc_json_more(struct sfc_json *j) {
	if (j->error || !j->depth)
		return false;
	sfc_json_space(j);
	uint8_t c = j->p < j->end ? *j->p : 0;
	if (c == (j->objects >> j->depth & 1 ? '}' : ']')) {
		j->value = j->p++;
		j->depth--;
		j->first = false;
		return false;
	}
	if (!j->first && c != ',') {
		sfc_json_fail_here(j, SFC_JSON_SYNTAX);
		return false;
	}
	j->p += !j->first;
	j->first = false;
	return true;
}

// sfc_json_key reads the next field's name of the object entered last; false
// when there is none: the object has been left.
static inline bool sfc_json_key(struct sfc_json *j) {
	if (!sfc_json_more(j))
		return false;
	if (sfc_json_type(j) != SFC_JSON_IS_STRING) {
		sfc_json_fail(j, SFC_JSON_SYNTAX);
		return false;
	}
	j->key_len = sfc_json_text(j, j->key, SFC_JSON_MAX_KEY);
	sfc_json_space(j);
	if (j->error || j->p == j->end || *j->p != ':') {
		sfc_json_fail_here(j, SFC_JSON_SYNTAX);
		return false;
	}
	j->p++;
	return true;
}

// sfc_json_field is true when the key read last is name. bit marks it in seen:
// a field that repeats is refused.
static inline bool sfc_json_field(struct sfc_json *j, const char *name, uint32_t *seen, uint32_t bit) {
	if (j->key_len > SFC_JSON_MAX_KEY || !sfc_text_is(j->key, j->key_len, name))
		return false;
	if (*seen & bit)
		sfc_json_fail(j, SFC_JSON_REPEATED);
	*seen |= bit;
	return true;
}

// sfc_json_enum reads a string and returns its index in names, which NULL ends.
// Another string is refused with SFC_JSON_VALUE.
static inline uint32_t sfc_json_enum(struct sfc_json *j, const char *const *names) {
	char text[SFC_JSON_MAX_KEY];
	if (!sfc_json_want(j, SFC_JSON_IS_STRING))
		return 0;
	uint32_t n = sfc_json_text(j, text, sizeof text);
	j->first = false;
	for (uint32_t i = 0; n <= sizeof text && names[i]; i++)
		if (sfc_text_is(text, n, names[i]))
			return i;
	sfc_json_fail(j, SFC_JSON_VALUE);
	return 0;
}

#endif
