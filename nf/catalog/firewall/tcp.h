// SPDX-License-Identifier: Apache-2.0
//
// tcp.h: what is kept of a flow, and how a TCP connection is followed in it:
// the states of RFC 9293 as far as a bystander needs them, and windows as in van
// Rooij, "Real stateful TCP packet filtering in IP Filter" (2000), which
// Linux's nf_conntrack uses too.
#ifndef FIREWALL_TCP_H
#define FIREWALL_TCP_H

#include "sfc_inet.h"

enum { TCP_FIN = 1, TCP_SYN = 2, TCP_RST = 4, TCP_ACK = 16 };

// States of a flow. Zero is one that no rule has permitted yet.
enum state {
	UNDECIDED,
	NOT_TCP,  // permitted: everything passes
	SYN_SENT, // the origin's SYN passed
	SYN_RECV, // the answer's SYN,ACK passed
	OPEN,
	CLOSING,  // a FIN passed
	CLOSED,   // a RST passed, or both sides' FIN
	SYN_BOTH, // from SYN_SENT, the other side's SYN passed too (RFC 9293, section 3.5)
};

#define NO_SCALE 0xff   // no window scale option
#define MAX_SCALE 14    // RFC 7323, section 2.3
#define LEAST_ACK 66000 // bytes an ACK may lag behind, if windows are smaller

// side is what one end of a connection may send. Sequence numbers count modulo
// 2^32 (RFC 9293, section 3.4).
struct side {
	uint32_t end;     // behind the last byte it sent
	uint32_t max_end; // behind the last byte the other side has room for
	uint32_t max_win; // the largest window it offered, in bytes
};

struct conn {
	struct side side[2]; // origin, who began the connection; answer
	uint8_t scale[2];    // of their windows, in bits
	uint8_t state;       // enum state
	uint8_t reverse : 1; // the origin's packets are against the flow's direction
	uint8_t loose : 1;   // windows are not known: it was picked up, or came in fragments
	uint8_t fin : 2;     // who sent a FIN, one bit per side
	uint32_t unused;
};

_Static_assert(sizeof(struct conn) == 32, "the manifest's flow_state_bytes");

// segment is a TCP segment, from headers that were checked.
struct segment {
	uint8_t flags; // FIN, SYN, RST and ACK only
	uint8_t scale; // of its window scale option, NO_SCALE without one
	bool fragment; // the first of a fragmented segment
	uint32_t seq, end, ack, win; // win as the header has it
};

static inline bool after(uint32_t a, uint32_t b) { return (int32_t)(a - b) > 0; }
static inline uint32_t larger(uint32_t a, uint32_t b) { return a > b ? a : b; }

// tcp_scale reads the window scale option from the options in [p, end).
static __attribute__((noinline)) uint8_t tcp_scale(const uint8_t *p, const uint8_t *end) {
	while (p < end && *p != 0) {
		if (*p == 1) {
			p++;
			continue;
		}
		if (end - p < 2 || p[1] < 2 || p[1] > end - p)
			return NO_SCALE;
		if (p[0] == 3 && p[1] == 3)
			return p[2] < MAX_SCALE ? p[2] : MAX_SCALE;
		p += p[1];
	}
	return NO_SCALE;
}

// tcp_read reads the segment of a packet; false when its headers or lengths make
// no sense or its flags do not go together.
static inline bool tcp_read(const struct sfc_desc *d, struct segment *s) {
	const uint8_t *l3, *l4 = sfc_header(d, d->l4, sizeof(struct sfc_tcp));
	uint32_t total, most = sfc_end(d) - d->l3;
	if (!l4 || d->l4 < d->l3)
		return false;
	if (d->flags & SFC_IPV4 && (l3 = sfc_header(d, d->l3, sizeof(struct sfc_ip4))))
		total = sfc_be16(l3 + 2);
	else if (d->flags & SFC_IPV6 && (l3 = sfc_header(d, d->l3, sizeof(struct sfc_ip6))))
		total = sfc_be16(l3 + 4) + (uint32_t)sizeof(struct sfc_ip6);
	else
		return false;
	total = total < most ? total : most;
	uint32_t size = (l4[12] >> 4) * 4u, headers = (uint32_t)(d->l4 - d->l3) + size;
	if (size < sizeof(struct sfc_tcp) || headers > total)
		return false;
	s->flags = l4[13] & (TCP_FIN | TCP_SYN | TCP_RST | TCP_ACK);
	// As bits: SYN, RST, ACK, SYN,ACK, RST,ACK and FIN,ACK.
	if (!((1u << TCP_SYN | 1u << TCP_RST | 1u << TCP_ACK | 1u << (TCP_SYN | TCP_ACK) |
	       1u << (TCP_RST | TCP_ACK) | 1u << (TCP_FIN | TCP_ACK)) >> s->flags & 1))
		return false;
	s->seq = sfc_be32(l4 + 4);
	s->ack = sfc_be32(l4 + 8);
	s->win = sfc_be16(l4 + 14);
	s->end = s->seq + (total - headers) + !!(s->flags & (TCP_SYN | TCP_FIN));
	s->scale = s->flags & TCP_SYN ? tcp_scale(l4 + sizeof(struct sfc_tcp), l4 + size) : NO_SCALE;
	s->fragment = d->flags & SFC_FRAGMENT;
	return true;
}

// tcp_begin starts a connection with the origin's SYN. Until it is answered,
// max_end is the number behind the SYN alone.
static inline void tcp_begin(struct conn *c, const struct segment *s, bool reverse) {
	*c = (struct conn){.state = SYN_SENT, .reverse = reverse, .loose = s->fragment};
	c->side[0] = (struct side){s->end, s->seq + 1, larger(s->win, 1)};
	c->scale[0] = s->scale;
}

// tcp_pick_up takes over a connection that began earlier, with a segment of whom
// is the origin from now on. How windows are scaled was said before.
static inline void tcp_pick_up(struct conn *c, const struct segment *s, bool reverse) {
	*c = (struct conn){.state = OPEN, .reverse = reverse, .loose = 1};
	c->side[0].end = s->end;
}

// tcp_cross notes the SYN of the answering side, sent before it saw the origin's.
// All that counts of it for now is its number: the SYN,ACK repeats the rest.
static inline void tcp_cross(struct conn *c, const struct segment *s) {
	c->side[1].end = s->seq + 1;
	c->loose |= s->fragment;
	c->state = SYN_BOTH;
}

// tcp_acks_syn says whether ack acknowledges the origin's SYN, and data that
// came with it at most.
static inline bool tcp_acks_syn(const struct conn *c, uint32_t ack) {
	return !after(c->side[0].max_end, ack) && !after(ack, c->side[0].end);
}

// tcp_answer takes the SYN,ACK. Windows are scaled if both sides want it.
static inline void tcp_answer(struct conn *c, const struct segment *s) {
	if (c->scale[0] == NO_SCALE || s->scale == NO_SCALE)
		c->scale[0] = c->scale[1] = 0;
	else
		c->scale[1] = s->scale;
	c->side[0].max_end = s->ack + larger(s->win, 1);
	c->side[1] = (struct side){s->end, s->seq + 1 + c->side[0].max_win, larger(s->win, 1)};
	c->loose |= s->fragment;
	c->state = SYN_RECV;
}

// tcp_fits says whether a segment from a side lies in the windows: it begins in
// what the other side has room for, it ends no further back than the other side's
// largest window, and it acknowledges what was sent and is not too old. What a
// reset acknowledges does not matter (RFC 9293, section 3.10.7.4).
static inline bool tcp_fits(const struct conn *c, const struct segment *s, int from) {
	const struct side *a = &c->side[from], *b = &c->side[!from];
	if (c->loose)
		return true;
	if (after(s->seq, a->max_end) || after(a->end - b->max_win, s->end))
		return false;
	return !(s->flags & TCP_ACK) || s->flags & TCP_RST ||
	       (!after(s->ack, b->end) && !after(b->end - larger(a->max_win, LEAST_ACK), s->ack));
}

// tcp_ends says whether a reset that fits ends the connection: it carries the
// number behind all that its sender sent. The receiver obeys no other and asks
// back with an ACK (RFC 5961, section 3), so the connection may live on.
static inline bool tcp_ends(const struct conn *c, const struct segment *s, int from) {
	return c->loose || s->seq == c->side[from].end;
}

// tcp_advance notes what a segment that fits sent, offered and acknowledged.
static inline void tcp_advance(struct conn *c, const struct segment *s, int from) {
	struct side *a = &c->side[from], *b = &c->side[!from];
	uint32_t win = s->flags & TCP_SYN ? s->win : s->win << c->scale[from];
	a->max_win = larger(a->max_win, win);
	if (after(s->end, a->end))
		a->end = s->end;
	uint32_t room = s->ack + larger(win, 1); // a full receiver is probed with a byte
	if (s->flags & TCP_ACK && after(room, b->max_end))
		b->max_end = room;
	c->loose |= s->fragment;
	if (s->flags & TCP_FIN) {
		c->fin |= 1u << from;
		c->state = CLOSING;
	}
}

#endif
