// SPDX-License-Identifier: Apache-2.0
//
// sfc_text.h: characters of a JSON string: escapes and UTF-8. sfc_json.h is
// what functions include.
#ifndef SFC_TEXT_H
#define SFC_TEXT_H

#include "sfc.h"

// sfc_text_is compares n bytes with a C string.
static inline bool sfc_text_is(const char *text, uint32_t n, const char *want) {
	uint32_t i = 0;
	for (; i < n && want[i] && text[i] == want[i]; i++)
		;
	return i == n && !want[i];
}

// sfc_text_hex4 reads the four digits of a \u escape, or returns -1.
static inline int32_t sfc_text_hex4(const uint8_t **at, const uint8_t *end) {
	int32_t v = 0;
	if (end - *at < 4)
		return -1;
	for (int i = 0; i < 4; i++) {
		uint8_t c = *(*at)++, l = c | 0x20;
		if (c >= '0' && c <= '9')
			v = v << 4 | (c - '0');
		else if (l >= 'a' && l <= 'f')
			v = v << 4 | (l - 'a' + 10);
		else
			return -1;
	}
	return v;
}

// sfc_text_escape reads what stands behind a backslash, or returns -1.
static inline int32_t sfc_text_escape(const uint8_t **at, const uint8_t *end) {
	if (*at == end)
		return -1;
	uint8_t c = *(*at)++;
	switch (c) {
	case '"': case '\\': case '/': return c;
	case 'b': return '\b';
	case 'f': return '\f';
	case 'n': return '\n';
	case 'r': return '\r';
	case 't': return '\t';
	case 'u': break;
	default: return -1;
	}
	int32_t r = sfc_text_hex4(at, end), low;
	if (r < 0xd800 || r > 0xdfff)
		return r;
	if (r > 0xdbff || end - *at < 2 || (*at)[0] != '\\' || (*at)[1] != 'u')
		return -1; // half a surrogate pair
	*at += 2;
	low = sfc_text_hex4(at, end);
	return low < 0xdc00 || low > 0xdfff ? -1 : 0x10000 + ((r - 0xd800) << 10) + (low - 0xdc00);
}

// sfc_text_utf8 reads the rest of a character that began with c >= 0x80, or
// returns -1: only shortest forms, no surrogates (RFC 3629).
static inline int32_t sfc_text_utf8(uint8_t c, const uint8_t **at, const uint8_t *end) {
	int more = c >= 0xf0 ? 3 : c >= 0xe0 ? 2 : 1;
	int32_t least = more == 3 ? 0x10000 : more == 2 ? 0x800 : 0x80;
	if (c < 0xc2 || c > 0xf4 || end - *at < more)
		return -1;
	int32_t r = c & (0x3f >> more);
	for (int i = 0; i < more; i++) {
		if ((**at & 0xc0) != 0x80)
			return -1;
		r = r << 6 | (*(*at)++ & 0x3f);
	}
	return r < least || r > 0x10ffff || (r >= 0xd800 && r < 0xe000) ? -1 : r;
}

// sfc_text_rune reads one character of a string, escapes resolved, and writes
// it as UTF-8. It returns its length, 0 at the closing quote, -1 on an error.
static inline int sfc_text_rune(const uint8_t **at, const uint8_t *end, uint8_t out[4]) {
	if (*at == end || **at < 0x20)
		return -1;
	uint8_t c = *(*at)++;
	if (c == '"')
		return 0;
	int32_t r = c;
	if (c == '\\')
		r = sfc_text_escape(at, end);
	else if (c >= 0x80)
		r = sfc_text_utf8(c, at, end);
	if (r < 0)
		return -1;
	if (r < 0x80) {
		out[0] = (uint8_t)r;
		return 1;
	}
	int n = r < 0x800 ? 2 : r < 0x10000 ? 3 : 4;
	for (int i = n - 1; i > 0; i--, r >>= 6)
		out[i] = 0x80 | (r & 0x3f);
	out[0] = (uint8_t)(0xf00 >> n | r);
	return n;
}

#endif
