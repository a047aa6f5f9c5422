/*
 * Deadlines. The epoch ticker counts wall time, but a worker may be preempted
 * in the middle of a guest's call, and that is not the guest's fault. So a
 * tick is only the moment to look: what decides is the CPU time of the thread.
 *
 * Reading that clock is a system call, too dear for every call of a guest. It
 * is read when a call meets a tick, which few do, and again at every tick
 * after that; a call that has used its budget in between is stopped: at most
 * budget and three ticks after it began.
 *
 * Long instructions such as memory.fill are taken to pieces at deployment (see
 * nf.Interruptible), so that they meet ticks. What is left between two places
 * that do, such as a page fault at each of thousands of loads in a row, is
 * noticed when the call returns: one that spans more ticks than its budget
 * makes its function suspect, and its next calls are measured whole.
 */
#include <time.h>
#include "shim.h"

#define SUSPECT_CALLS 1024

static uint64_t thread_cpu_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Called by Wasmtime when a guest meets a tick. */
static wasmtime_error_t *look(wasmtime_context_t *ctx, void *data, uint64_t *delta, wasmtime_update_deadline_kind_t *kind)
{
	(void)ctx;
	struct sfc_instance *i = data;
	struct sfc_deadline *d = &i->deadline;
	uint64_t now = thread_cpu_ns();
	if (!d->entered)
		sfc_ticker_use(i->ticker); /* a long one */
	if (!d->ref_ns) {
		d->ref_ns = now;
	} else if (now - d->ref_ns > d->budget_ns) {
		d->late_ns = now - d->ref_ns;
		return wasmtime_error_new("deadline passed");
	}
	*delta = 1;
	*kind = WASMTIME_UPDATE_DEADLINE_CONTINUE;
	return NULL;
}

void sfc_deadline_attach(struct sfc_instance *i)
{
	wasmtime_store_epoch_deadline_callback(i->store, look, i, NULL);
}

/* Starts the clock for a call. */
static inline void start(struct sfc_instance *i, uint64_t budget_ns)
{
	struct sfc_deadline *d = &i->deadline;
	d->budget_ns = budget_ns;
	d->tick = sfc_ticker_ticks(i->ticker);
	d->late_ns = 0;
	d->ref_ns = 0;
	if (__builtin_expect(d->suspect, 0)) {
		d->suspect--;
		d->ref_ns = thread_cpu_ns();
	}
	wasmtime_context_set_epoch_deadline(i->ctx, 1);
}

void sfc_deadline_start(struct sfc_instance *i, uint64_t budget_ns)
{
	sfc_ticker_use(i->ticker);
	start(i, budget_ns);
}

void sfc_deadline_enter(struct sfc_instance *i, uint64_t budget_ns)
{
	sfc_ticker_enter(i->ticker);
	i->deadline.entered = true;
	start(i, budget_ns);
}

void sfc_deadline_leave(struct sfc_instance *i)
{
	i->deadline.entered = false;
	sfc_ticker_leave(i->ticker);
}

/* Ends it: the CPU time in ns that the call took if that was too much, else 0. */
uint64_t sfc_deadline_end(struct sfc_instance *i)
{
	struct sfc_deadline *d = &i->deadline;
	if (d->late_ns)
		return d->late_ns;
	uint64_t ticks = sfc_ticker_ticks(i->ticker) - d->tick;
	if (__builtin_expect(ticks > 1 && (ticks - 1) * i->ticker->period_ns > d->budget_ns, 0)) {
		d->suspect = SUSPECT_CALLS;
		uint64_t used = d->ref_ns ? thread_cpu_ns() - d->ref_ns : 0;
		if (used > d->budget_ns)
			d->late_ns = used;
	}
	return d->late_ns;
}
