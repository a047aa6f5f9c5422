// SPDX-License-Identifier: Apache-2.0
//
// json: reads JSON texts from standard input, each behind its length (32 bits,
// little-endian), and prints for each what sfc_json.h makes of it, or
// "error CODE". Every text lies in a block of its own size, so that a sanitizer
// sees a read past its end.
#include <stdio.h>
#include <stdlib.h>

#include "sfc_json.h"

uint8_t *sfc_base;

static char out[1 << 20];
static size_t used;

static void put(const char *text) {
	while (*text && used < sizeof out - 1)
		out[used++] = *text++;
}

static void put_hex(const char *text, uint32_t n) {
	char pair[3];
	put("\"");
	for (uint32_t i = 0; i < n; i++) {
		snprintf(pair, sizeof pair, "%02x", (uint8_t)text[i]);
		put(pair);
	}
	put("\"");
}

static void value(struct sfc_json *j) {
	char text[4096];
	switch (sfc_json_type(j)) {
	case SFC_JSON_IS_NOTHING:
		return;
	case SFC_JSON_IS_NULL:
		sfc_json_null(j);
		put("null");
		return;
	case SFC_JSON_IS_BOOL:
		put(sfc_json_bool(j) ? "true" : "false");
		return;
	case SFC_JSON_IS_NUMBER:
		snprintf(text, sizeof text, "%lld", (long long)sfc_json_int(j, INT64_MIN + 1, INT64_MAX));
		put(text);
		return;
	case SFC_JSON_IS_STRING:
		put_hex(text, sfc_json_string(j, text, sizeof text));
		return;
	case SFC_JSON_IS_ARRAY:
		put("[");
		for (sfc_json_array(j); sfc_json_more(j); put(","))
			value(j);
		put("]");
		return;
	case SFC_JSON_IS_OBJECT:
		put("{");
		sfc_json_object(j);
		while (sfc_json_key(j)) {
			put_hex(j->key, j->key_len < SFC_JSON_MAX_KEY ? j->key_len : SFC_JSON_MAX_KEY);
			put(":");
			value(j);
			put(",");
		}
		put("}");
		return;
	}
}

int main(void) {
	uint32_t len;
	while (fread(&len, sizeof len, 1, stdin) == 1) {
		struct sfc_json j;
		uint8_t *text = malloc(len ? len : 1);
		if (!text || fread(text, 1, len, stdin) != len)
			return 1;
		sfc_base = text;
		used = 0;
		sfc_json_start(&j, 0, len);
		value(&j);
		int32_t code = sfc_json_finish(&j);
		if (code && (uint32_t)code >> 8 > len)
			return 2; // an error outside the text
		out[used] = 0;
		if (code)
			printf("error %d\n", code & 0xff);
		else
			puts(out);
		free(text);
	}
	return 0;
}
