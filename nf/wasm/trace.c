/*
 * Following packets through functions: what each found, what it left, and how
 * long its run took. The worker chooses the packets and reads the records; here
 * they are written, without waiting for anybody. See packet.HopTrace.
 */
#include <string.h>
#include "shim.h"

static inline bool wanted(const struct sfc_trace *t, uint32_t h, uint32_t k)
{
	return t->hops >> h & 1 && t->want >> k & 1;
}

/* Keeps bytes of a frame; where they lie, and how many there are. */
static void keep(struct sfc_trace *t, const struct sfc_chain *c, struct sfc_frame f, uint32_t *at, uint16_t *len)
{
	uint64_t from = (uint64_t)f.chunk + f.off;
	uint32_t n = f.len < t->snap ? f.len : t->snap;
	*at = t->used;
	*len = 0;
	if (n > SFC_TRACE_DATA - t->used || from + n > c->frames_len)
		return;
	memcpy(t->data + t->used, c->frames + from, n);
	*len = (uint16_t)n;
	t->used += n;
}

/* Before function h runs on n packets; returns its first record. */
uint32_t sfc_trace_in(struct sfc_trace *t, const struct sfc_chain *c, const struct sfc_burst *b, uint32_t h, uint8_t trial,
	const uint8_t *idx, uint32_t n)
{
	uint32_t first = t->n;
	for (uint32_t i = 0; i < n; i++) {
		uint32_t k = idx[i];
		if (!wanted(t, h, k))
			continue;
		if (t->n == SFC_TRACE_RECORDS) {
			t->lost++;
			continue;
		}
		struct sfc_trace_record *r = &t->record[t->n++];
		memset(r, 0, sizeof *r);
		r->packet = (uint8_t)k;
		r->hop = (uint8_t)h;
		r->trial = trial;
		r->burst = (uint16_t)n;
		r->before = r->after = b->frames[k];
		r->mark_before = r->mark = __atomic_load_n(&c->desc[i].mark, __ATOMIC_RELAXED);
		r->port_before = r->port = __atomic_load_n(&c->desc[i].out_port, __ATOMIC_RELAXED);
		if (t->sides & SFC_TRACE_BEFORE)
			keep(t, c, r->before, &r->before_at, &r->before_len);
	}
	return first;
}

/* After it ran, and before its descriptors are settled: what only they say. */
void sfc_trace_ran(struct sfc_trace *t, const struct sfc_chain *c, uint32_t first, uint32_t h, const uint8_t *idx, uint32_t n,
	uint64_t took_ns)
{
	uint32_t at = first;
	for (uint32_t i = 0; i < n && at < t->n; i++) {
		if (!wanted(t, h, idx[i]))
			continue;
		struct sfc_trace_record *r = &t->record[at++];
		r->mark = __atomic_load_n(&c->desc[i].mark, __ATOMIC_RELAXED);
		r->port = __atomic_load_n(&c->desc[i].out_port, __ATOMIC_RELAXED);
		r->took_ns = took_ns;
	}
}

/* After they are settled: the n packets of idx go on, although the function
 * failed when fault is its reason. */
void sfc_trace_out(struct sfc_trace *t, const struct sfc_chain *c, const struct sfc_burst *b, uint32_t first, const uint8_t *idx,
	uint32_t n, uint16_t fault)
{
	uint64_t on = 0;
	for (uint32_t i = 0; i < n; i++)
		on |= (uint64_t)1 << idx[i];
	for (uint32_t at = first; at < t->n; at++) {
		struct sfc_trace_record *r = &t->record[at];
		const struct sfc_out *o = &b->out[r->packet];
		bool next = on >> r->packet & 1;
		r->verdict = next ? SFC_NEXT : o->verdict;
		r->reason = next ? fault : o->verdict == SFC_DROP ? o->reason : 0;
		r->fault = next ? fault != 0 : o->fault;
		r->after = b->frames[r->packet];
		if (t->sides & SFC_TRACE_AFTER)
			keep(t, c, r->after, &r->after_at, &r->after_len);
	}
}
