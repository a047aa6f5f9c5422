/*
 * Linear memory with the window mapped over it:
 *
 *   0            stack_top   private, zero
 *   stack_top    16 MiB      scrap
 *   16 MiB       +16 KiB     control page and descriptors, the chain's
 *                32 MiB      scrap
 *   32 MiB       +frames     frame region, the chain's
 *                128 MiB     scrap
 *   128 MiB      +1.06 MiB   counters page and configuration, private
 *                144 MiB     scrap
 *   144 MiB      +slots      flow state of the function, kept when it is replaced
 *                256 MiB     scrap
 *   256 MiB      size        data and heap, private, limited
 *   size         4 GiB       no access, and guards
 *
 * All of [0, size) is readable and writable, since bulk-memory instructions
 * run in host code, where a fault would end the process. Scrap is one small
 * memfd per tenant mapped again and again, so that filling it costs the host
 * no more than its size.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include "shim.h"

_Thread_local struct sfc_layout *sfc_layout_now;
_Thread_local struct sfc_memory *sfc_memory_made;

#define ALIGN (2u << 20) /* so that huge pages can be mapped over the window */

static bool share(uint8_t *base, uint64_t at, uint64_t len, int fd)
{
	return mmap(base + at, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) != MAP_FAILED;
}

static bool scrap(uint8_t *base, uint64_t from, uint64_t to, const struct sfc_layout *l)
{
	while (from < to) {
		uint64_t n = to - from < l->scrap_len ? to - from : l->scrap_len;
		if (!share(base, from, n, l->scrap_fd))
			return false;
		from += n;
	}
	return true;
}

static bool private(uint8_t *base, uint64_t from, uint64_t to)
{
	return from >= to || mprotect(base + from, to - from, PROT_READ | PROT_WRITE) == 0;
}

static uint8_t *get_memory(void *env, size_t *size, size_t *capacity)
{
	struct sfc_memory *m = env;
	*size = m->size;
	*capacity = m->layout->limit;
	return m->base;
}

static wasmtime_error_t *grow_memory(void *env, size_t size)
{
	struct sfc_memory *m = env;
	if (m->sealed)
		return wasmtime_error_new("memory may not grow after sfc_configure");
	if (size > m->layout->limit)
		return wasmtime_error_new("memory limit reached");
	if (size > m->size) {
		if (!private(m->base, m->size, size))
			return wasmtime_error_new("mprotect refused");
		m->size = size;
	}
	return NULL;
}

/* Where the slots cut the scrap in two; at its end when there are none. */
static uint64_t slots_at(const struct sfc_layout *l)
{
	return l->slots_len ? SFC_SLOTS_START : SFC_DATA_START;
}

/* The most mappings that one memory has: a process may have
 * vm.max_map_count of them, and Go's runtime ends it when it gets no more. */
static int64_t mappings(const struct sfc_layout *l)
{
	const uint64_t holes[][2] = {
		{ l->stack_top, SFC_WINDOW_START },
		{ SFC_WINDOW_START + SFC_CONTROL_SIZE, SFC_FRAMES_START },
		{ SFC_FRAMES_START + l->frames_len, SFC_PRIVATE_START },
		{ SFC_CONFIG_START + SFC_CONFIG_MAX, slots_at(l) },
		{ slots_at(l) + l->slots_len, SFC_DATA_START },
	};
	/* stack, control, frames, private, data, no access before and behind; slots */
	uint64_t n = 7 + (l->slots_len > 0);
	for (size_t i = 0; i < sizeof holes / sizeof holes[0]; i++)
		n += (holes[i][1] - holes[i][0] + l->scrap_len - 1) / l->scrap_len;
	return (int64_t)n;
}

static void unmap(struct sfc_memory *m)
{
	munmap(m->map, m->map_len);
	sfc_engine_claim(m->layout->engine, -mappings(m->layout));
	free(m);
}

/* Makes a memory as new: private parts read as zero, growth is undone. */
static bool reset(struct sfc_memory *m)
{
	uint8_t *b = m->base;
	uint32_t stack = m->layout->stack_top;
	if (stack && madvise(b, stack, MADV_DONTNEED) != 0)
		return false;
	if (madvise(b + SFC_PRIVATE_START, SFC_CONFIG_START + SFC_CONFIG_MAX - SFC_PRIVATE_START, MADV_DONTNEED) != 0)
		return false;
	if (m->size > SFC_DATA_START && madvise(b + SFC_DATA_START, m->size - SFC_DATA_START, MADV_DONTNEED) != 0)
		return false;
	if (m->size > m->minimum && mprotect(b + m->minimum, m->size - m->minimum, PROT_NONE) != 0)
		return false;
	m->size = m->minimum;
	m->sealed = false;
	return true;
}

/* Wasmtime has deleted the store: keep the mapping for the next instance of
 * the same function. */
static void retire(void *env)
{
	struct sfc_memory *m = env;
	struct sfc_layout *l = m->layout;
	if (!reset(m)) {
		unmap(m);
		return;
	}
	pthread_mutex_lock(&l->lock);
	m->next = l->idle;
	l->idle = m;
	pthread_mutex_unlock(&l->lock);
}

static struct sfc_memory *take(struct sfc_layout *l, size_t minimum, size_t reserved)
{
	pthread_mutex_lock(&l->lock);
	struct sfc_memory *m = l->idle;
	if (m && m->minimum == minimum && m->reserved >= reserved)
		l->idle = m->next;
	else
		m = NULL;
	pthread_mutex_unlock(&l->lock);
	return m;
}

/* Maps a new memory, its mappings claimed; NULL with errno when the kernel
 * refuses, and the claim is given back. */
static struct sfc_memory *map_new(struct sfc_layout *l, size_t minimum, size_t reserved, size_t guard)
{
	struct sfc_memory *m = calloc(1, sizeof *m);
	if (!m) {
		sfc_engine_claim(l->engine, -mappings(l));
		return NULL;
	}
	m->layout = l;
	m->reserved = reserved;
	m->map_len = reserved + guard + ALIGN;
	m->map = mmap(NULL, m->map_len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (m->map == MAP_FAILED) {
		sfc_engine_claim(l->engine, -mappings(l));
		free(m);
		return NULL;
	}
	uint8_t *b = (uint8_t *)(((uintptr_t)m->map + ALIGN - 1) & ~(uintptr_t)(ALIGN - 1));
	m->base = b;
	m->size = m->minimum = minimum;
	bool ok = private(b, 0, l->stack_top)
		&& scrap(b, l->stack_top, SFC_WINDOW_START, l)
		&& share(b, SFC_WINDOW_START, SFC_CONTROL_SIZE, l->control_fd)
		&& scrap(b, SFC_WINDOW_START + SFC_CONTROL_SIZE, SFC_FRAMES_START, l)
		&& share(b, SFC_FRAMES_START, l->frames_len, l->frames_fd)
		&& scrap(b, SFC_FRAMES_START + l->frames_len, SFC_PRIVATE_START, l)
		&& private(b, SFC_PRIVATE_START, SFC_CONFIG_START + SFC_CONFIG_MAX)
		&& scrap(b, SFC_CONFIG_START + SFC_CONFIG_MAX, slots_at(l), l)
		&& (!l->slots_len || share(b, SFC_SLOTS_START, l->slots_len, l->slots_fd))
		&& scrap(b, slots_at(l) + l->slots_len, SFC_DATA_START, l)
		&& private(b, SFC_DATA_START, minimum);
	if (!ok) {
		int e = errno;
		unmap(m);
		errno = e;
		return NULL;
	}
	return m;
}

/* Called by Wasmtime inside instantiation, on the thread that set
 * sfc_layout_now. */
wasmtime_error_t *sfc_memory_new(void *env, const wasm_memorytype_t *ty, size_t minimum, size_t maximum, size_t reserved,
	size_t guard, wasmtime_linear_memory_t *ret)
{
	(void)env;
	(void)ty;
	(void)maximum;
	struct sfc_layout *l = sfc_layout_now;
	if (!l)
		return wasmtime_error_new("memory made outside sfc_instance_new");
	if (minimum > l->limit || minimum < SFC_DATA_START)
		return wasmtime_error_new("memory size outside the limits");
	if (reserved < l->limit)
		reserved = l->limit;
	struct sfc_memory *m = take(l, minimum, reserved);
	if (!m) {
		char msg[256];
		uint64_t most = sfc_engine_claim(l->engine, mappings(l));
		if (most) {
			snprintf(msg, sizeof msg, "an instance takes up to %llu memory mappings, and all together may have %llu: "
				"raise the limit of the process, sysctl -w vm.max_map_count=N, or keep fewer spares",
				(unsigned long long)mappings(l), (unsigned long long)most);
			return wasmtime_error_new(msg);
		}
		m = map_new(l, minimum, reserved, guard);
		if (!m) {
			snprintf(msg, sizeof msg, "map a linear memory: %s (see ulimit -v and vm.max_map_count)", strerror(errno));
			return wasmtime_error_new(msg);
		}
	}
	*ret = (wasmtime_linear_memory_t){ .env = m, .get_memory = get_memory, .grow_memory = grow_memory, .finalizer = retire };
	sfc_memory_made = m;
	return NULL;
}

struct sfc_layout *sfc_layout_new(struct sfc_engine *e)
{
	struct sfc_layout *l = calloc(1, sizeof *l);
	if (l) {
		l->engine = e;
		pthread_mutex_init(&l->lock, NULL);
	}
	return l;
}

void sfc_layout_delete(struct sfc_layout *l)
{
	while (l->idle) {
		struct sfc_memory *m = l->idle;
		l->idle = m->next;
		unmap(m);
	}
	pthread_mutex_destroy(&l->lock);
	free(l);
}
