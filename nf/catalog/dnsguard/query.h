// SPDX-License-Identifier: Apache-2.0
//
// query.h: the question section of a DNS message (RFC 1035 section 4.1).
#ifndef DNSGUARD_QUERY_H
#define DNSGUARD_QUERY_H

#include "names.h"
#include "sfc_inet.h"

#define DNS_HEADER 12
#define MAX_QUESTIONS 8 // servers answer one; more than this is malformed

enum query {
	QUERY_NONE,      // a response, or nothing is asked
	QUERY_OTHER,     // asks for nothing listed
	QUERY_LISTED,    // asks for a listed name
	QUERY_MALFORMED, // breaks RFC 1035
};

// name_read reads the name at pos of the message; *next becomes the place behind
// it. A compression pointer must point in front of the part of the name that
// holds it, and behind the message's header. So positions only fall from jump to
// jump and no message makes it loop.
static bool name_read(struct name *out, const uint8_t *msg, uint32_t len, uint32_t pos, uint32_t *next) {
	uint32_t part = pos; // where the labels read now began
	bool jumped = false;
	out->len = out->labels = 0;
	for (;;) {
		if (pos >= len)
			return false;
		uint8_t count = msg[pos++];
		if (count == 0)
			break;
		if (count >= 0xc0) {
			if (pos >= len)
				return false;
			uint32_t to = (uint32_t)(count & 0x3f) << 8 | msg[pos++];
			if (!jumped)
				*next = pos;
			jumped = true;
			if (to >= part || to < DNS_HEADER)
				return false;
			part = pos = to;
			continue;
		}
		if (count > 63 || pos + count > len || !name_label(out))
			return false;
		for (; count; count--)
			if (!name_byte(out, msg[pos++]))
				return false;
	}
	if (!jumped)
		*next = pos;
	return true;
}

// query_check parses a message of len bytes and looks its names up.
static enum query query_check(const uint8_t *msg, uint32_t len, const struct names *names) {
	struct name name;
	uint32_t pos = DNS_HEADER;
	bool listed = false;
	if (len < DNS_HEADER)
		return QUERY_MALFORMED;
	uint32_t questions = sfc_be16(msg + 4);
	if (msg[2] & 0x80)
		return QUERY_NONE;
	if (questions == 0)
		return QUERY_NONE;
	if (questions > MAX_QUESTIONS)
		return QUERY_MALFORMED;
	for (; questions; questions--) {
		if (!name_read(&name, msg, len, pos, &pos) || len - pos < 4)
			return QUERY_MALFORMED;
		pos += 4; // type and class
		listed |= names_has(names, &name);
	}
	return listed ? QUERY_LISTED : QUERY_OTHER;
}

#endif
