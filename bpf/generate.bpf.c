//go:build ignore

// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0
//
// A load generator inside the kernel: run over live frames by BPF_PROG_RUN, it
// writes the headers of the next flow and redirects the frame to an interface.

#include "include/kernel.h"

char license_text[] SEC("license") = "Dual BSD/GPL";

#define MAX_HEADER_WORDS 16

/* Frames are recycled and whoever received one may have changed its headers, so
 * these are written anew each time: 8 bytes a word, as in the packet.
 */
const volatile u64 gen_header[MAX_HEADER_WORDS];
const volatile u32 gen_header_words;
const volatile u32 gen_ifindex;   /* where the frames go */
const volatile u32 gen_flow_mask; /* number of flows - 1; a power of two - 1 */

/* Where the fields of a flow are, by offset, and what the template has there. */
const volatile u32 gen_addr_at; /* last 4 bytes of the source address */
const volatile u32 gen_to_at;   /* last 4 bytes of the destination address; 0: it stays */
const volatile u32 gen_port_at; /* source port */
const volatile u32 gen_ip_sum_at; /* header checksum; 0: IPv6, none */
const volatile u32 gen_l4_sum_at; /* 0: UDP without a checksum */
const volatile u8 gen_udp;      /* a sum of 0 is sent as 0xffff */
const volatile u32 gen_addr;
const volatile u32 gen_to;
const volatile u16 gen_port;
const volatile u16 gen_ip_sum;
const volatile u16 gen_l4_sum;

/* Flows differ in the low bits of the port first, then in the address. */
#define PORT_BITS 12

struct gen_state {
	u64 frames;
};

/* How many frames were made. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct gen_state);
} state SEC(".maps");

/* RFC 1624: the sum after what it covers changed from old to new, where both
 * are sums of 16-bit words.
 */
static __always_inline u16 update(u16 sum, u32 old, u32 new)
{
	u32 s = (u16)~sum + (~old & 0xffff) + (~old >> 16) + (new & 0xffff) + (new >> 16);

	s = (s & 0xffff) + (s >> 16);
	s = (s & 0xffff) + (s >> 16);
	return ~s;
}

/* Writes 2 or 4 bytes at a constant offset below MAX_HEADER_WORDS * 8. */
#define PUT(type, at, value)                                                   \
	do {                                                                   \
		u8 *p = data + ((at) & (MAX_HEADER_WORDS * 8 - 1));            \
		if (p + sizeof(type) > (u8 *)ptr(ctx->data_end))               \
			return XDP_ABORTED;                                    \
		*(type *)p = value;                                            \
	} while (0)

SEC("xdp")
int generate(struct xdp_md *ctx)
{
	u32 zero = 0, flow, addr, to;
	u8 *data = ptr(ctx->data);
	struct gen_state *s = bpf_map_lookup_elem(&state, &zero);
	u16 port, sum;

	if (!s)
		return XDP_ABORTED; /* cannot happen: the map has one entry */
	/* An odd factor visits every flow once before any twice, out of order, so
	 * that caches see no pattern.
	 */
	flow = ((u32)s->frames * 2654435761U) & gen_flow_mask;
	s->frames++;

	for (u32 i = 0; i < MAX_HEADER_WORDS; i++) {
		if (i >= gen_header_words)
			break;
		if (data + i * 8 + 8 > (u8 *)ptr(ctx->data_end))
			return XDP_ABORTED; /* cannot happen: the template is as long */
		*(u64 *)(data + i * 8) = gen_header[i];
	}
	addr = gen_addr + (flow >> PORT_BITS);
	to = gen_to;
	port = gen_port + (flow & ((1 << PORT_BITS) - 1));
	PUT(u32, gen_addr_at, bswap32(addr));
	if (gen_to_at) {
		to += flow >> PORT_BITS;
		PUT(u32, gen_to_at, bswap32(to));
	}
	PUT(u16, gen_port_at, bswap16(port));
	if (gen_ip_sum_at) {
		sum = update(gen_ip_sum, gen_addr, addr);
		sum = update(sum, gen_to, to);
		PUT(u16, gen_ip_sum_at, bswap16(sum));
	}
	if (gen_l4_sum_at) {
		sum = update(gen_l4_sum, gen_addr, addr);
		sum = update(sum, gen_to, to);
		sum = update(sum, gen_port | 0xffff0000, port | 0xffff0000);
		if (!sum && gen_udp)
			sum = 0xffff;
		PUT(u16, gen_l4_sum_at, bswap16(sum));
	}
	return bpf_redirect(gen_ifindex, 0);
}
