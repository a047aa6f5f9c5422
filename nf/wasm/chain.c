/*
 * A burst through the functions of a path, in one call from Go.
 *
 * Descriptors may change at any time: a spare of the same path that is being
 * configured on another thread has them in its memory too. So each word is
 * loaded once, atomically, and only what was loaded is checked and used.
 */
#include <stdio.h>
#include <string.h>
#include "shim.h"

#define likely(x)   __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

static inline uint64_t where_of(struct sfc_frame f)
{
	return (uint64_t)(SFC_FRAMES_START + f.chunk) | (uint64_t)f.off << 32 | (uint64_t)f.len << 48;
}

/* Whether the path's functions may send on a port. */
static inline bool may_send(const struct sfc_chain *c, uint16_t port)
{
	return port < 64 && c->ports >> port & 1;
}

/* Chunk, offset and length as one word: one load tells whether a function
 * moved the packet. */
static inline uint64_t where_is(const struct sfc_desc *d)
{
	return __atomic_load_n((const uint64_t *)(const void *)d, __ATOMIC_RELAXED);
}

/* Verdict, padding and reason as one word. */
static inline uint32_t word_of(const struct sfc_desc *d)
{
	return __atomic_load_n((const uint32_t *)(const void *)&d->verdict, __ATOMIC_RELAXED);
}

static inline uint16_t port_of(const struct sfc_desc *d)
{
	return __atomic_load_n(&d->out_port, __ATOMIC_RELAXED);
}

static inline void clear_word(struct sfc_desc *d)
{
	memset(&d->verdict, 0, 4);
}

static void drop(struct sfc_burst *b, const struct sfc_hop *hop, uint32_t h, uint32_t k, uint16_t reason, bool fault)
{
	b->out[k].verdict = SFC_DROP;
	b->out[k].hop = (uint8_t)h;
	b->out[k].trial = hop->trial;
	b->out[k].reason = reason;
	b->out[k].fault = fault;
}

static void engine_drop(struct sfc_burst *b, struct sfc_hop *hop, uint32_t h, uint32_t k, uint16_t reason)
{
	hop->stats->engine[reason]++;
	drop(b, hop, h, k, reason, true);
}

/*
 * Settles a packet whose descriptor is not simply "Next, as it was": reads
 * every word once, checks it, and writes the host's own record. Returns
 * whether the packet goes on to the next function.
 */
static bool settle(struct sfc_chain *c, struct sfc_burst *b, struct sfc_hop *hop, uint32_t h, uint32_t k, const struct sfc_desc *d)
{
	uint64_t where = where_is(d);
	uint32_t word = word_of(d);
	uint16_t port = port_of(d), reason = (uint16_t)(word >> 16);
	uint8_t verdict = (uint8_t)word;

	if (verdict == SFC_ABORT || verdict >= SFC_VERDICTS) {
		hop->stats->verdicts[SFC_ABORT]++;
		engine_drop(b, hop, h, k, SFC_R_NO_VERDICT);
		return false;
	}
	if (verdict == SFC_DROP) {
		uint16_t known = reason <= hop->reasons ? reason : 0;
		hop->stats->verdicts[SFC_DROP]++;
		hop->stats->reasons[known]++;
		drop(b, hop, h, k, known, false);
		return false;
	}
	if (where != c->where[k]) {
		uint32_t off = (uint16_t)(where >> 32), len = (uint16_t)(where >> 48);
		if ((uint32_t)where != (uint32_t)c->where[k] || len < SFC_MIN_FRAME || off + len > SFC_CHUNK) {
			engine_drop(b, hop, h, k, SFC_R_BAD_DESCRIPTOR);
			return false;
		}
		c->where[k] = where;
		b->frames[k].off = (uint16_t)off;
		b->frames[k].len = (uint16_t)len;
	}
	if (!may_send(c, port)) {
		engine_drop(b, hop, h, k, SFC_R_BAD_PORT);
		return false;
	}
	b->out[k].port = port;
	hop->stats->verdicts[verdict]++;
	if (verdict == SFC_NEXT)
		return true;
	b->out[k].verdict = verdict;
	b->out[k].hop = (uint8_t)h;
	b->out[k].trial = hop->trial;
	return false;
}

/* Settles the burst after function h; keeps those that go on, in order, at the
 * front of the descriptors, verdicts cleared. */
static uint32_t collect(struct sfc_chain *c, struct sfc_burst *b, struct sfc_hop *hop, uint32_t h, uint8_t *idx, uint32_t n)
{
	uint32_t kept = 0, plain = 0;
	for (uint32_t i = 0; i < n; i++) {
		struct sfc_desc *d = &c->desc[i];
		uint32_t k = idx[i];
		if (likely(word_of(d) == SFC_NEXT && where_is(d) == c->where[k] && port_of(d) == b->out[k].port))
			plain++;
		else if (!settle(c, b, hop, h, k, d))
			continue;
		clear_word(d);
		if (kept != i) {
			c->desc[kept] = *d;
			idx[kept] = (uint8_t)k;
		}
		kept++;
	}
	hop->stats->verdicts[SFC_NEXT] += plain;
	return kept;
}

/* The fault policy for the n packets that function h held. */
static uint32_t policy(struct sfc_burst *b, struct sfc_hop *hop, uint32_t h, const uint8_t *idx, uint32_t n, uint16_t reason)
{
	if (hop->open) {
		hop->stats->skipped += n;
		return n;
	}
	for (uint32_t i = 0; i < n; i++)
		engine_drop(b, hop, h, idx[i], reason);
	return 0;
}

int sfc_call_end(struct sfc_hop *hop, wasmtime_error_t *e, wasm_trap_t *trap)
{
	hop->late_ns = sfc_deadline_end(hop->inst);
	if (likely(!e && !trap && !hop->late_ns))
		return SFC_OK;
	if (e)
		sfc_error_read(e, hop->trap);
	else if (trap)
		sfc_trap_read(trap, hop->trap);
	if (hop->late_ns) {
		snprintf(hop->trap, sizeof hop->trap, "deadline passed: %llu us of CPU time",
			(unsigned long long)hop->late_ns / 1000);
		hop->stats->overruns++;
		return SFC_ERR_BUDGET;
	}
	hop->stats->traps++;
	return SFC_ERR_TRAP;
}

/* Hands over the state of the flows that function h is about to see. The slots
 * are the host's own record: a function before it may have written others. */
static int migrate(struct sfc_hop *hop, const struct sfc_burst *b, const uint8_t *idx, uint32_t n)
{
	uint32_t slots[SFC_BURST];
	for (uint32_t i = 0; i < n; i++)
		slots[i] = b->slot[idx[i]];
	return sfc_migrate(hop, slots, n);
}

/* Lets function h give something to the flows of the n packets it is called
 * with, until bind_end: at other times it has no packets to name. */
static void bind_begin(struct sfc_chain *c, const struct sfc_burst *b, struct sfc_hop *hop, uint32_t h, const uint8_t *idx, uint32_t n)
{
	struct sfc_binder *to = c->binder;
	to->n = n;
	to->hop = h;
	to->idx = idx;
	to->slot = b->slot;
	hop->inst->binder = to;
}

/* What a function was promised holds, even if it trapped later on: it may have
 * written it into the flow's state, which outlives it. */
static void bind_end(struct sfc_chain *c)
{
	c->binder->n = 0;
	c->binder->idx = NULL;
	c->binder->slot = NULL;
}

/*
 * Has the caches load what a function keeps of the flows of n packets. All of
 * these loads are under way at once, while the function itself would wait for
 * most of them one by one. The slots are the host's own record.
 */
static void fetch_state(const struct sfc_hop *hop, const struct sfc_burst *b, const uint8_t *idx, uint32_t n)
{
	if (!hop->inst)
		return;
	const struct sfc_memory *mem = hop->inst->mem;
	const uint32_t bytes = mem->layout->slot_bytes;
	if (!bytes)
		return;
	for (uint32_t i = 0; i < n; i++) {
		uint64_t at = (uint64_t)b->slot[idx[i]] * bytes, end = at + bytes;
		if (end > mem->layout->slots_len)
			continue; /* no flow */
		for (at &= ~(uint64_t)63; at < end; at += 64)
			__builtin_prefetch(mem->base + SFC_SLOTS_START + at, 1);
	}
}

/* The class of a time: an eighth of a power of two; latency.go has the same. */
static uint32_t latency_class(uint64_t ns)
{
	if (ns < 8)
		return (uint32_t)ns;
	uint32_t e = 63 - (uint32_t)__builtin_clzll(ns);
	uint32_t class = (e - 2) * 8 + (uint32_t)(ns >> (e - 3) & 7);
	return class < SFC_LATENCY ? class : SFC_LATENCY - 1;
}

static void note_time(struct sfc_stats *s, uint64_t took_ns, uint32_t packets)
{
	s->timed_ns += took_ns;
	s->timed_packets += packets;
	if (took_ns > s->timed_max)
		s->timed_max = took_ns;
	s->latency[latency_class(took_ns)]++;
}

/* One version of function h over the n packets of idx, whose descriptors lie in
 * front; returns how many go on. Sets bit of *faulted when its instance died. */
static inline __attribute__((always_inline)) uint32_t run(struct sfc_chain *c, struct sfc_burst *b, struct sfc_hop *hop, uint32_t h,
	uint8_t *idx, uint32_t n, bool timed, struct sfc_trace *t, uint32_t bit, uint32_t *faulted)
{
	uint32_t first = 0;
	if (t)
		first = sfc_trace_in(t, c, b, h, hop->trial, idx, n);
	if (unlikely(!hop->inst)) {
		n = policy(b, hop, h, idx, n, SFC_R_SUSPENDED);
		if (t)
			sfc_trace_out(t, c, b, first, idx, n, SFC_R_SUSPENDED);
		return n;
	}
	if (hop->open)
		memcpy(c->saved, c->desc, n * sizeof c->desc[0]);
	uint64_t start = t || unlikely(timed) ? sfc_now_ns() : 0;
	wasmtime_val_raw_t arg = { .i32 = (int32_t)n };
	int rc = unlikely(hop->migration != NULL) ? migrate(hop, b, idx, n) : SFC_OK;
	if (c->binder)
		bind_begin(c, b, hop, h, idx, n);
	if (likely(rc == SFC_OK))
		rc = sfc_call(hop, &hop->inst->process, &arg);
	if (c->binder)
		bind_end(c);
	uint64_t took = t || unlikely(timed) ? sfc_now_ns() - start : 0;
	hop->stats->bursts++;
	hop->stats->packets += n;
	if (unlikely(timed))
		note_time(hop->stats, took, n);
	if (t)
		sfc_trace_ran(t, c, first, h, idx, n, took);
	uint16_t fault = 0;
	if (likely(rc == SFC_OK)) {
		n = collect(c, b, hop, h, idx, n);
	} else {
		fault = rc == SFC_ERR_BUDGET ? SFC_R_BUDGET : SFC_R_FAULT;
		*faulted |= bit;
		if (hop->open)
			memcpy(c->desc, c->saved, n * sizeof c->desc[0]);
		n = policy(b, hop, h, idx, n, fault);
	}
	if (t)
		sfc_trace_out(t, c, b, first, idx, n, fault);
	return n;
}

/* Both versions of function h, each over the packets that are its own. */
static __attribute__((noinline)) uint32_t run_both(struct sfc_chain *c, struct sfc_burst *b, uint32_t h, uint8_t *idx, uint32_t n,
	bool timed, struct sfc_trace *t, uint32_t *faulted)
{
	uint8_t other[SFC_BURST];
	uint32_t nother;
	n = sfc_canary_split(c, b, h, idx, n, other, &nother);
	if (n > 0)
		n = run(c, b, &c->hop[h], h, idx, n, timed, t, 1u << h, faulted);
	if (nother == 0)
		return n;
	sfc_canary_turn(c, h, n, nother);
	nother = run(c, b, &c->hop[h].canary->hop, h, other, nother, timed, t, 1u << (h + SFC_MAX_HOPS), faulted);
	return sfc_canary_join(c, h, idx, n, other, nother);
}

/* A burst through the functions of a path. The compiler makes two of it: one
 * without a trace, in which nothing asks for one. */
static inline __attribute__((always_inline)) uint32_t process(struct sfc_chain *c, struct sfc_burst *b,
	const struct sfc_order *order, struct sfc_trace *t)
{
	uint8_t idx[SFC_BURST];
	uint32_t n = b->n, faulted = 0;
	bool timed = (c->count++ & c->time_mask) == 0;

	c->control->now_ns = b->now_ns;
	for (uint32_t k = 0; k < n; k++) {
		idx[k] = (uint8_t)k;
		c->where[k] = where_of(b->frames[k]);
		/* The worker has just written it, but see above. */
		uint16_t port = port_of(&c->desc[k]);
		b->out[k] = (struct sfc_out){ .verdict = SFC_TX, .hop = 0xff, .port = may_send(c, port) ? port : c->egress };
	}
	if (order->n > 0)
		fetch_state(&c->hop[order->hop[0]], b, idx, n);
	for (uint32_t at = 0; at < order->n && n > 0; at++) {
		uint32_t h = order->hop[at];
		struct sfc_hop *hop = &c->hop[h];
		if (at + 1 < order->n) /* while this one works */
			fetch_state(&c->hop[order->hop[at + 1]], b, idx, n);
		if (unlikely(hop->canary != NULL))
			n = run_both(c, b, h, idx, n, timed, t, &faulted);
		else
			n = run(c, b, hop, h, idx, n, timed, t, 1u << h, &faulted);
	}
	return faulted;
}

uint32_t sfc_chain_process(struct sfc_chain *c, struct sfc_burst *b, const struct sfc_order *order)
{
	return process(c, b, order, NULL);
}

uint32_t sfc_chain_process_traced(struct sfc_chain *c, struct sfc_burst *b, const struct sfc_order *order, struct sfc_trace *t)
{
	t->n = t->used = t->lost = 0;
	return process(c, b, order, t);
}
