/* What functions are told between bursts: the time, and which flows have ended. */
#include "shim.h"

/* sfc_tick of one version; bit when its instance died. */
static uint32_t tick(struct sfc_hop *hop, uint64_t now_ns, uint32_t bit)
{
	struct sfc_instance *i = hop->inst;
	wasmtime_val_raw_t arg = { .i64 = (int64_t)now_ns };
	wasm_trap_t *trap = NULL;
	if (!i || !i->has_tick)
		return 0;
	sfc_deadline_enter(i, hop->budget_ns); /* not as a burst: it comes to idle functions, too */
	wasmtime_error_t *e = wasmtime_func_call_unchecked(i->ctx, &i->tick, &arg, 1, &trap);
	sfc_deadline_leave(i);
	return sfc_call_end(hop, e, trap) == SFC_OK ? 0 : bit;
}

uint32_t sfc_chain_tick(struct sfc_chain *c, uint64_t now_ns)
{
	uint32_t faulted = 0;
	c->control->now_ns = now_ns;
	for (uint32_t h = 0; h < c->nhops; h++) {
		faulted |= tick(&c->hop[h], now_ns, 1u << h);
		if (c->hop[h].canary)
			faulted |= tick(&c->hop[h].canary->hop, now_ns, 1u << (h + SFC_MAX_HOPS));
	}
	return faulted;
}

/* Tells function h that the flows in these slots have ended. It sees what it
 * knows of them: what is under way from another version comes first. All calls
 * for as many flows as a burst has packets share one deadline: flows end in
 * their thousands. */
static int flow_end(struct sfc_hop *hop, const uint32_t *slots, uint32_t n)
{
	int rc = SFC_OK;
	for (uint32_t k = 0; k < n && rc == SFC_OK; k += SFC_BURST) {
		uint32_t m = n - k < SFC_BURST ? n - k : SFC_BURST;
		wasm_trap_t *trap = NULL;
		wasmtime_error_t *e = NULL;
		if (hop->migration && (rc = sfc_migrate(hop, slots + k, m)) != SFC_OK)
			break;
		sfc_deadline_start(hop->inst, hop->budget_ns);
		for (uint32_t j = 0; j < m && !e && !trap; j++) {
			wasmtime_val_raw_t arg = { .i32 = (int32_t)slots[k + j] };
			e = wasmtime_func_call_unchecked(hop->inst->ctx, &hop->inst->flow_end, &arg, 1, &trap);
		}
		rc = sfc_call_end(hop, e, trap);
	}
	return rc;
}

/* The same for a hop with two versions: each is told of the flows that met it.
 * Those that go on after a fault of one are the other's. */
static uint32_t flow_end_both(struct sfc_hop *hop, uint32_t h, const uint32_t *slots, uint32_t n)
{
	struct sfc_hop *both[2] = { hop, &hop->canary->hop };
	uint32_t faulted = 0;
	for (uint32_t k = 0; k < n; k += SFC_BURST) {
		uint32_t of[2][SFC_BURST], have[2];
		sfc_canary_sort(hop->canary, slots + k, n - k < SFC_BURST ? n - k : SFC_BURST, of, have);
		for (uint32_t v = 0; v < 2; v++) {
			uint32_t bit = 1u << (h + v * SFC_MAX_HOPS);
			const struct sfc_instance *i = both[v]->inst;
			if (have[v] && !(faulted & bit) && i && i->has_flow_end && flow_end(both[v], of[v], have[v]) != SFC_OK)
				faulted |= bit;
		}
	}
	return faulted;
}

uint32_t sfc_chain_flow_end(struct sfc_chain *c, const uint32_t *slots, uint32_t n)
{
	uint32_t faulted = 0;
	for (uint32_t h = 0; h < c->nhops; h++) {
		struct sfc_instance *i = c->hop[h].inst;
		if (c->hop[h].canary)
			faulted |= flow_end_both(&c->hop[h], h, slots, n);
		else if (i && i->has_flow_end && flow_end(&c->hop[h], slots, n) != SFC_OK)
			faulted |= 1u << h;
	}
	return faulted;
}
