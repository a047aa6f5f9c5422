//go:build ignore

// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0
//
// The stub for the far end of a veth link: a redirect into a veth is dropped
// unless its peer runs NAPI, and a program on the peer makes it do so.

#include "include/kernel.h"

char license_text[] SEC("license") = "Dual BSD/GPL";

SEC("xdp.frags")
int pass(struct xdp_md *ctx)
{
	return XDP_PASS;
}
