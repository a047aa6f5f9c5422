/* Log lines of guests, on their way to Go. */
#include <string.h>
#include "shim.h"

/* Takes a line of what a tenant's functions may write: at most a second's worth
 * at once. */
static bool log_allowed(struct sfc_log_quota *q, uint64_t now)
{
	const uint64_t second = 1000000000u;
	uint64_t cost = atomic_load_explicit(&q->cost_ns, memory_order_relaxed);
	if (!cost)
		return true;
	uint64_t paid = atomic_load_explicit(&q->paid_until, memory_order_relaxed), from;
	do {
		from = paid > now ? paid : now;
		if (from + cost > now + second) {
			atomic_fetch_add_explicit(&q->suppressed, 1, memory_order_relaxed);
			return false;
		}
	} while (!atomic_compare_exchange_weak_explicit(&q->paid_until, &paid, from + cost, memory_order_relaxed,
		memory_order_relaxed));
	return true;
}

/* sfc.log(level i32, ptr i32, len i32): 10 lines a second on average, 20 at
 * once, as long as the tenant's other functions leave some; longer lines are cut; a range outside memory logs nothing. */
wasm_trap_t *sfc_log_line(void *env, wasmtime_caller_t *caller, wasmtime_val_raw_t *args, size_t n)
{
	(void)env;
	(void)n;
	struct sfc_instance *inst = wasmtime_context_get_data(wasmtime_caller_context(caller));
	uint32_t level = (uint32_t)args[0].i32, ptr = (uint32_t)args[1].i32, len = (uint32_t)args[2].i32;
	struct sfc_log *l = inst->log;
	const uint64_t cost = 100000000u, most = 20 * cost;

	uint64_t now = sfc_now_ns(), credit = l->tokens_ns + (now - l->last_ns);
	l->tokens_ns = credit < most ? credit : most;
	l->last_ns = now;
	uint32_t head = atomic_load_explicit(&l->head, memory_order_relaxed);
	if (l->tokens_ns < cost || head - atomic_load_explicit(&l->tail, memory_order_acquire) == SFC_LOG_LINES) {
		atomic_fetch_add_explicit(&l->suppressed, 1, memory_order_relaxed);
		return NULL;
	}
	l->tokens_ns -= cost;
	if (inst->mem == NULL || (uint64_t)ptr + len > inst->mem->size || !log_allowed(l->quota, now)) {
		atomic_fetch_add_explicit(&l->suppressed, 1, memory_order_relaxed);
		return NULL;
	}
	if (len > SFC_LOG_BYTES)
		len = SFC_LOG_BYTES;
	uint32_t i = head % SFC_LOG_LINES;
	l->line[i].level = level > 255 ? 255 : (uint8_t)level;
	l->line[i].len = (uint16_t)len;
	memcpy(l->line[i].text, inst->mem->base + ptr, len);
	atomic_store_explicit(&l->head, head + 1, memory_order_release);
	atomic_store(l->noted, 1);
	sfc_engine_note(inst->engine);
	return NULL;
}
