/*
 * The epoch ticker: what makes guests look at their deadline.
 *
 * It is a thread of its own, not a Go timer: it must tick while every P of the
 * Go scheduler is busy, or stuck in a guest that loops.
 *
 * On a machine that is idle a tick costs some 10 us of a core, most of it for
 * the timer. So the ticker sleeps while no guest runs. Who enters a guest
 * wakes it, in one of two ways:
 *
 *   sfc_ticker_use    for bursts: two loads as long as it is awake, and it stays
 *                     awake for a while, since more bursts will come
 *   sfc_ticker_enter  for calls that come seldom: two atomic additions, and it
 *                     sleeps again once the call is over
 *
 * No wake-up is lost. Each side first writes its own word and then reads the
 * other's, with a full barrier in between: the ticker `asleep` and then `used`
 * and `inside`, who enters the other way round. So one of the two sees the other.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include "shim.h"

/* The ticker goes on for so long after the last burst: waking it takes some
 * microseconds of the worker's. Longer where a call may take longer, see
 * sfc_ticker_budget. */
#define LINGER_NS 10000000u

void sfc_ticker_wake(struct sfc_ticker *t)
{
	if (atomic_exchange(&t->asleep, 0))
		syscall(SYS_futex, &t->asleep, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

void sfc_ticker_enter(struct sfc_ticker *t)
{
	atomic_fetch_add(&t->inside, 1);
	if (atomic_load(&t->asleep))
		sfc_ticker_wake(t);
}

void sfc_ticker_leave(struct sfc_ticker *t)
{
	atomic_fetch_sub_explicit(&t->inside, 1, memory_order_release);
}

/* Calls may take so long: the ticks of one that meets none of them are counted
 * all the same, see deadline.c. */
void sfc_ticker_budget(struct sfc_ticker *t, uint64_t budget_ns)
{
	uint64_t want = budget_ns + 2 * (uint64_t)t->period_ns, have = atomic_load(&t->linger_ns);
	while (have < want && !atomic_compare_exchange_weak(&t->linger_ns, &have, want))
		;
}

static bool wanted(struct sfc_ticker *t)
{
	return atomic_load(&t->used) || atomic_load(&t->inside) || atomic_load(&t->stop);
}

/* Sleeps until there is a guest. */
static void doze(struct sfc_ticker *t)
{
	atomic_store(&t->asleep, 1);
	while (!wanted(t) && atomic_load(&t->asleep))
		syscall(SYS_futex, &t->asleep, FUTEX_WAIT_PRIVATE, 1, NULL, NULL, 0); /* or a signal */
	atomic_store(&t->asleep, 0);
}

static void *run(void *arg)
{
	struct sfc_ticker *t = arg;
	struct timespec period = { .tv_sec = t->period_ns / 1000000000u, .tv_nsec = t->period_ns % 1000000000u };
	uint64_t quiet_ns = 0; /* since the last burst */
	while (!atomic_load_explicit(&t->stop, memory_order_relaxed)) {
		if (quiet_ns >= atomic_load_explicit(&t->linger_ns, memory_order_relaxed) && !atomic_load(&t->inside))
			doze(t);
		/* From now, not from the last tick: a ticker that was late must
		 * not make up for it with ticks that mean no time. */
		struct timespec left = period;
		while (clock_nanosleep(CLOCK_MONOTONIC, 0, &left, &left) == EINTR)
			;
		wasmtime_engine_increment_epoch(t->wasm);
		atomic_fetch_add_explicit(&t->ticks, 1, memory_order_relaxed);
		quiet_ns = atomic_exchange(&t->used, 0) ? 0 : quiet_ns + t->period_ns;
	}
	return NULL;
}

int sfc_ticker_start(struct sfc_ticker *t, wasm_engine_t *wasm, uint32_t period_ns)
{
	t->wasm = wasm;
	t->period_ns = period_ns;
	t->linger_ns = LINGER_NS;
	return pthread_create(&t->thread, NULL, run, t);
}

void sfc_ticker_stop(struct sfc_ticker *t)
{
	atomic_store(&t->stop, true);
	sfc_ticker_wake(t);
	pthread_join(t->thread, NULL);
}
