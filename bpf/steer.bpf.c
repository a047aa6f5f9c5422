//go:build ignore

// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0
//
// The steering program of one port: parse, classify, and either put metadata in
// front of the frame and redirect it to the AF_XDP socket of its queue and of the
// worker that owns its flow, or treat it by the port's policy, or drop it. Every frame is counted once.

#include "steer_classify.h"
#include "steer_owners.h"

char license_text[] SEC("license") = "Dual BSD/GPL";

/* What no path claims. The caller has counted why. */
static __always_inline int unclaimed(struct sfc_counters *count)
{
	switch (cfg_unmatched) {
	case POLICY_PASS:
		count->passed++;
		return XDP_PASS;
	case POLICY_FORWARD:
		if (bpf_redirect_map(&pair, 0, XDP_DROP) == XDP_REDIRECT) {
			count->forwarded++;
			return XDP_REDIRECT;
		}
		count->no_pair++;
		return XDP_DROP;
	}
	count->no_path++;
	return XDP_DROP;
}

/* Writes the metadata, over what a driver or an earlier program may have put
 * there; returns 0 when there is no room for it.
 */
static __always_inline int write_meta(struct xdp_md *ctx, const struct info *in, u32 n, u32 hash, u16 path,
				      u16 bucket)
{
	int grow = (int)sizeof(struct sfc_meta) - (int)(ptr(ctx->data) - ptr(ctx->data_meta));
	struct sfc_meta *m;

	if (bpf_xdp_adjust_meta(ctx, -grow))
		return 0;
	m = ptr(ctx->data_meta);
	if ((void *)(m + 1) > ptr(ctx->data))
		return 0;
	*m = (struct sfc_meta){
		.rx_ns = bpf_ktime_get_ns(),
		.seq = n,
		.hash = hash,
		.path = path,
		.port = cfg_port,
		.l3 = in->l3,
		.l4 = in->l4,
		.flags = in->flags,
		.proto = in->proto,
		.version = META_VERSION,
		.vlan = in->vlan,
		.bucket = bucket,
	};
	return 1;
}

SEC("xdp.frags")
int steer(struct xdp_md *ctx)
{
	u32 zero = 0, cpu = bpf_get_smp_processor_id();
	u32 len = bpf_xdp_get_buff_len(ctx), linear = ctx->data_end - ctx->data;
	struct sfc_counters *count = bpf_map_lookup_elem(&counters, &cpu);
	struct sfc_seq *s = bpf_map_lookup_elem(&seq, &zero);
	struct place place;
	struct info in;
	int claim;
	u64 hash;
	u32 n;

	if (!count || !s)
		return XDP_ABORTED; /* cannot happen: one slot per possible CPU */
	n = __sync_fetch_and_add(&s->next, 1);

	switch (parse(ctx, &in, len)) {
	case PARSED_IP:
		break;
	case NOT_IP:
		count->not_ip++;
		return unclaimed(count);
	case NEIGHBOUR_DISCOVERY:
		count->nd++;
		return unclaimed(count);
	case EXT_HEADERS:
		count->ext_headers++;
		return XDP_DROP;
	default:
		/* Headers that lie in a second buffer are not wrong, only far. */
		if (linear == len)
			count->malformed++;
		else
			count->too_long++;
		return XDP_DROP;
	}
	claim = classify(&in);
	if (claim < 0) {
		count->unmatched++;
		return unclaimed(count);
	}
	/* A socket takes one buffer, with the headroom in front. */
	if (len > cfg_max_frame || linear != len) {
		count->too_long++;
		return XDP_DROP;
	}
	hash = flow_hash(&in);
	place = place_of(&in, claim, hash);
	if (!write_meta(ctx, &in, n, hash, claim, place.bucket)) {
		count->no_meta++;
		return XDP_DROP;
	}
	if (bpf_redirect_map(&xsks, ctx->rx_queue_index * MAX_WORKERS + take(place), XDP_DROP) != XDP_REDIRECT) {
		count->no_socket++;
		return XDP_DROP;
	}
	count->redirected++;
	return XDP_REDIRECT;
}
