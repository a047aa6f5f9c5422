/*
 * Deadlines. The epoch ticker counts wall time, but a worker may be preempted
 * in the middle of a guest's call, and that is not the guest's fault. So a
 * deadline in ticks is only the moment to look: what decides is the CPU time
 * of the thread.
 *
 * Reading that clock is a system call, too dear for every call of a guest. It
 * is read when the tick has changed since it was last read, so that the
 * reference is at most one tick older than the call; a guest is late when the
 * thread has used its budget and one tick more since then.
 */
#include <time.h>
#include "shim.h"

static _Thread_local uint64_t ref_tick = UINT64_MAX, ref_cpu;

static uint64_t thread_cpu_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Returns the CPU time in ns that the call under way took, 0 if in time. */
static uint64_t late(struct sfc_instance *i)
{
	uint64_t used = thread_cpu_ns() - ref_cpu;
	return used > i->budget.cpu_ns ? used : 0;
}

/* Called by Wasmtime when a guest reaches its deadline in ticks. */
static wasmtime_error_t *reached(wasmtime_context_t *ctx, void *data, uint64_t *delta,
	wasmtime_update_deadline_kind_t *kind)
{
	(void)ctx;
	struct sfc_instance *i = data;
	if (late(i)) {
		i->late = true;
		return wasmtime_error_new("deadline passed");
	}
	*delta = 1;
	*kind = WASMTIME_UPDATE_DEADLINE_CONTINUE;
	return NULL;
}

void sfc_deadline_attach(struct sfc_instance *i)
{
	wasmtime_store_epoch_deadline_callback(i->store, reached, i, NULL);
}

/* Starts the clock for a call. */
void sfc_deadline_start(struct sfc_instance *i, struct sfc_budget b)
{
	uint64_t tick = sfc_engine_ticks(i->engine);
	if (tick != ref_tick) {
		ref_tick = tick;
		ref_cpu = thread_cpu_ns();
	}
	i->budget = b;
	i->late = false;
	wasmtime_context_set_epoch_deadline(i->ctx, b.ticks);
}

/* After a call that returned by itself: the CPU time in ns that it took if it
 * was late all the same, else 0. Instructions like memory.fill run without a
 * check of the epoch. */
uint64_t sfc_deadline_passed(struct sfc_instance *i)
{
	if (sfc_engine_ticks(i->engine) - ref_tick <= i->budget.ticks)
		return 0;
	return late(i);
}
