// SPDX-License-Identifier: Apache-2.0
//
// sfc.h: what a network function of the engine needs, ABI version 1.
//
// The contract in prose is nf/ABI.md; the constants are nf/abi.go; the
// descriptor is dataplane/packet/desc.go. The static asserts below keep the
// three the same.
//
// A function is compiled to Wasm (clang --target=wasm32, no C library). The
// same source compiles natively with -DSFC_NATIVE, for benchmarks and for
// fuzzing under a sanitizer: guest addresses are then offsets from sfc_base,
// which the host sets before the first call.
#ifndef SFC_H
#define SFC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Guest addresses: [SFC_WINDOW_START, SFC_DATA_START) belongs to the engine.
#define SFC_WINDOW_START 0x01000000u
#define SFC_DESC_START (SFC_WINDOW_START + 0x1000u)
#define SFC_FRAMES_START 0x02000000u
#define SFC_PRIVATE_START 0x08000000u
#define SFC_COUNTERS_START SFC_PRIVATE_START
#define SFC_CONFIG_START (SFC_PRIVATE_START + 0x10000u)
#define SFC_SLOTS_START 0x09000000u
#define SFC_DATA_START 0x10000000u

#define SFC_BURST 64         // most descriptors per call
#define SFC_CHUNK_SIZE 2048  // bytes per chunk
#define SFC_MIN_FRAME 14     // bytes: no frame may get shorter
#define SFC_NUM_COUNTERS 512 // 64-bit counters
#define SFC_CONFIG_MAX 0x100000u

#ifdef SFC_NATIVE
// sfc_base is where guest address 0 would lie in the host's memory.
extern uint8_t *sfc_base;
#define SFC_EXPORT(name) __attribute__((visibility("default")))
static inline void *sfc_at(uint32_t addr) { return sfc_base + addr; }
#else
#define SFC_EXPORT(name) __attribute__((export_name(#name)))
static inline void *sfc_at(uint32_t addr) { return (void *)addr; }
#endif

// Flags of a packet (sfc_desc.flags).
enum {
	SFC_IPV4 = 1 << 0,       // IPv4 header at l3
	SFC_IPV6 = 1 << 1,       // IPv6 header at l3
	SFC_VLAN = 1 << 2,       // at least one VLAN tag
	SFC_FRAGMENT = 1 << 3,   // any fragment of a larger packet
	SFC_LATER_FRAG = 1 << 4, // a fragment that is not the first: no l4 header
	SFC_ICMP_ERROR = 1 << 5, // ICMP error message that quotes a packet
	SFC_NEW_FLOW = 1 << 6,   // first packet of its flow
	SFC_REVERSE = 1 << 7,    // against the direction of the flow's first packet
};

// Verdicts (sfc_desc.verdict). 0 means the function forgot the packet: the
// engine drops it and counts a fault.
enum {
	SFC_VERDICT_ABORT = 0,
	SFC_VERDICT_DROP = 1,
	SFC_VERDICT_NEXT = 2,
	SFC_VERDICT_TX = 3,
	SFC_VERDICT_PASS = 4,
};

// sfc_desc is one packet. A function may change off, len, out_port, mark,
// verdict and reason; the engine ignores what it finds in the others.
struct sfc_desc {
	uint32_t chunk;    // guest address of the chunk; the frame is at chunk+off
	uint16_t off;      // offset of the frame's first byte in the chunk
	uint16_t len;      // length of the frame in bytes
	uint16_t l3;       // offset of the IP header in the chunk, 0: none
	uint16_t l4;       // offset of the transport header in the chunk, 0: none
	uint8_t proto;     // transport protocol (IANA number)
	uint8_t pad0;
	uint16_t flags;    // SFC_IPV4 ...
	uint32_t slot;     // index of the flow's state
	uint32_t hash;     // keyed flow hash
	uint64_t rx_ns;    // the packet's time in ns
	uint16_t in_port;  // index of the ingress port
	uint16_t out_port; // index of the egress port
	uint32_t mark;     // the tenant's own, carried along the chain
	uint8_t verdict;   // SFC_VERDICT_...
	uint8_t pad1;
	uint16_t reason;   // number of a drop reason of the manifest, from 1
	uint16_t vlan;     // outermost VLAN id when SFC_VLAN is set
	uint8_t pad2[18];
};

// sfc_control is the page at SFC_WINDOW_START. The engine writes it.
struct sfc_control {
	uint32_t abi;       // 1
	uint32_t burst;     // most descriptors per call
	uint64_t now_ns;    // time of this burst in ns
	uint32_t path;      // index of the chain
	uint32_t worker;    // index of the worker
	uint32_t ports;     // number of ports; out_port must be below
	uint32_t chunk_len; // bytes per chunk
};

_Static_assert(sizeof(struct sfc_desc) == 64, "sfc_desc is 64 bytes");
_Static_assert(offsetof(struct sfc_desc, l3) == 8, "sfc_desc.l3");
_Static_assert(offsetof(struct sfc_desc, flags) == 14, "sfc_desc.flags");
_Static_assert(offsetof(struct sfc_desc, rx_ns) == 24, "sfc_desc.rx_ns");
_Static_assert(offsetof(struct sfc_desc, mark) == 36, "sfc_desc.mark");
_Static_assert(offsetof(struct sfc_desc, verdict) == 40, "sfc_desc.verdict");
_Static_assert(offsetof(struct sfc_desc, vlan) == 44, "sfc_desc.vlan");
_Static_assert(sizeof(struct sfc_control) == 32, "sfc_control is 32 bytes");

// sfc_descs returns the burst's descriptors; [0, n) of sfc_process are valid.
static inline struct sfc_desc *sfc_descs(void) { return sfc_at(SFC_DESC_START); }

// sfc_control returns the control page.
static inline const struct sfc_control *sfc_control(void) { return sfc_at(SFC_WINDOW_START); }

// sfc_frame returns the frame's first byte.
static inline uint8_t *sfc_frame(const struct sfc_desc *d) {
	return sfc_at(d->chunk + d->off);
}

// sfc_end returns the offset in the chunk of the first byte behind the frame.
static inline uint32_t sfc_end(const struct sfc_desc *d) {
	return (uint32_t)d->off + d->len;
}

// sfc_header returns the size bytes at offset off of the chunk (l3, l4 or a
// place behind them), or NULL when they are not all inside the frame. off 0
// stands for "no such header".
static inline uint8_t *sfc_header(const struct sfc_desc *d, uint32_t off, uint32_t size) {
	if (off < d->off || off == 0 || off + size > sfc_end(d))
		return NULL;
	return sfc_at(d->chunk + off);
}

typedef uint32_t __attribute__((may_alias)) sfc_alias32;

// sfc_decide writes verdict and reason with one store.
static inline void sfc_decide(struct sfc_desc *d, uint32_t verdict, uint32_t reason) {
	*(sfc_alias32 *)&d->verdict = verdict | reason << 16;
}

// sfc_next hands the packet to the next function of the chain.
static inline void sfc_next(struct sfc_desc *d) { sfc_decide(d, SFC_VERDICT_NEXT, 0); }

// sfc_drop drops the packet; reason counts from 1 in the manifest's order.
static inline void sfc_drop(struct sfc_desc *d, uint32_t reason) {
	sfc_decide(d, SFC_VERDICT_DROP, reason);
}

// sfc_tx sends the packet on a port now, past the rest of the chain.
static inline void sfc_tx(struct sfc_desc *d, uint16_t port) {
	d->out_port = port;
	sfc_decide(d, SFC_VERDICT_TX, 0);
}

// sfc_pass gives the packet to the kernel's network stack.
static inline void sfc_pass(struct sfc_desc *d) { sfc_decide(d, SFC_VERDICT_PASS, 0); }

// sfc_count adds n to a counter; i is its index in the manifest, from 0.
// Cheap, but once per burst with a local total is cheaper still.
static inline void sfc_count(uint32_t i, uint64_t n) {
	((uint64_t *)sfc_at(SFC_COUNTERS_START))[i] += n;
}

// SFC_NO_SLOT is the slot of packets without a flow: later fragments of nothing
// known, ICMP errors about nothing known, and what a full flow table refused.
#define SFC_NO_SLOT 0xffffffffu

// sfc_slot returns the flow's state of flow_state_bytes (manifest) bytes,
// zeroed when the flow is new. The packet must have a flow: see SFC_NO_SLOT.
static inline void *sfc_slot(const struct sfc_desc *d, uint32_t flow_state_bytes) {
	return sfc_at(SFC_SLOTS_START + d->slot * flow_state_bytes);
}

// sfc_slot_of returns the state in a slot, for sfc_flow_end and sfc_slot_migrate,
// which are told the slot itself.
static inline void *sfc_slot_of(uint32_t slot, uint32_t flow_state_bytes) {
	return sfc_at(SFC_SLOTS_START + slot * flow_state_bytes);
}

// sfc_old_state returns what sfc_slot_migrate(old, old_len, slot) is given: a
// copy of a flow's state as the version before left it, or NULL when it has not
// the size of that version's struct.
static inline const void *sfc_old_state(uint32_t old, uint32_t old_len, uint32_t size) {
	return old_len == size ? sfc_at(old) : NULL;
}

// sfc_abi_v1 says which ABI the module was made for.
SFC_EXPORT(sfc_abi_v1) __attribute__((weak)) void sfc_abi_v1(void) {}

#endif
