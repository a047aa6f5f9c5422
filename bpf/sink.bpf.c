//go:build ignore

// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0
//
// The end of a benchmark: counts frames and bytes, then drops them.

#include "include/kernel.h"

char license_text[] SEC("license") = "Dual BSD/GPL";

struct sink_total {
	u64 frames;
	u64 bytes;
};

/* What arrived, per CPU. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct sink_total);
} totals SEC(".maps");

SEC("xdp.frags")
int sink(struct xdp_md *ctx)
{
	u32 zero = 0;
	struct sink_total *t = bpf_map_lookup_elem(&totals, &zero);

	if (!t)
		return XDP_ABORTED; /* cannot happen: the map has one entry */
	t->frames++;
	t->bytes += bpf_xdp_get_buff_len(ctx);
	return XDP_DROP;
}
