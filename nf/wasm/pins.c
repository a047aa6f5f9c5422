/* The table of dataplane/steer/pins.go, with the same rules step by step: see
 * there for why it is right. Atomics are sequentially consistent as Go's are;
 * on x86 that costs nothing but in stores, which are few. */
#include <sched.h>
#include <stddef.h>
#include "pins.h"

#define load(p)     __atomic_load_n(p, __ATOMIC_SEQ_CST)
#define store(p, v) __atomic_store_n(p, v, __ATOMIC_SEQ_CST)
#define add(p, v)   __atomic_add_fetch(p, v, __ATOMIC_SEQ_CST)

#define SPINS 200 /* looks at a lock before the thread lets others run */

/* Both lines of the bucket are wanted at once: a table of a million entries is
 * in no cache. */
static uint64_t home_of(const struct sfc_pins *p, uint64_t key)
{
	uint64_t home = (key >> 32) * p->homes >> 32;
	__builtin_prefetch(&p->buckets[home].e[SFC_PIN_ENTRIES - 1], 1);
	return home;
}

static struct sfc_pin_bucket *bucket(const struct sfc_pins *p, uint64_t home, uint64_t d)
{
	return &p->buckets[home + d];
}

/* The holder of a lock may be a goroutine on its way through pins.go. It takes
 * no other lock meanwhile, so it gets on, whatever this thread does. */
static void lock(struct sfc_pin_bucket *b)
{
	for (uint32_t n = 1, free = 0;
		!__atomic_compare_exchange_n(&b->lock, &free, 1, false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED); n++) {
		free = 0;
		if (n % SPINS == 0)
			sched_yield();
		else
			__builtin_ia32_pause();
	}
}

static void unlock(struct sfc_pin_bucket *b) { store(&b->lock, 0); }

/* Finds a key whose home is locked; d says how far from home it lies. */
static struct sfc_pin_entry *find(const struct sfc_pins *p, uint64_t home, uint64_t key, uint64_t *d)
{
	for (*d = 0; *d <= SFC_PIN_REACH; ++*d) {
		struct sfc_pin_bucket *b = bucket(p, home, *d);
		for (int i = 0; i < SFC_PIN_ENTRIES; i++)
			if (load(&b->e[i].key) == key)
				return &b->e[i];
		if (load(&b->spill) == 0)
			break;
	}
	return NULL;
}

/* Counts an entry at distance d in the buckets it passed over. */
static void spill(const struct sfc_pins *p, uint64_t home, uint64_t d, uint32_t n)
{
	for (uint64_t i = 0; i < d; i++)
		add(&bucket(p, home, i)->spill, n);
}

static int free_places(struct sfc_pin_bucket *b)
{
	int n = 0;
	for (int i = 0; i < SFC_PIN_ENTRIES; i++)
		n += !(load(&b->e[i].gen) & 1);
	return n;
}

/* Takes a free place: at home, else where most are free. */
static struct sfc_pin_entry *place(const struct sfc_pins *p, uint64_t home, uint64_t *d)
{
	for (;;) {
		int most = free_places(bucket(p, home, 0)), n;
		*d = 0;
		for (uint64_t i = 1; i <= SFC_PIN_REACH && (*d != 0 || most == 0); i++)
			if ((n = free_places(bucket(p, home, i))) > most) {
				most = n;
				*d = i;
			}
		if (most == 0)
			return NULL;
		struct sfc_pin_bucket *b = bucket(p, home, *d);
		for (int i = 0; i < SFC_PIN_ENTRIES; i++) {
			struct sfc_pin_entry *e = &b->e[i];
			uint32_t g = load(&e->gen);
			if (!(g & 1) &&
				__atomic_compare_exchange_n(&e->gen, &g, g + 1, false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED))
				return e;
		}
	}
}

static enum sfc_pin_status insert_locked(const struct sfc_pins *p, uint64_t home, uint64_t key, uint64_t value,
	uint32_t more)
{
	uint64_t d;
	struct sfc_pin_entry *e = find(p, home, key, &d);
	if (e) {
		if (load(&e->value) != value)
			return SFC_PIN_TAKEN;
		if (more == 0)
			return SFC_PIN_HELD;
		if (load(&e->refs) == UINT32_MAX)
			return SFC_PIN_FULL;
		add(&e->refs, more);
		return SFC_PIN_OK;
	}
	if (add(&p->share->live, 1) > p->share->most) {
		add(&p->share->live, -1);
		return SFC_PIN_FULL;
	}
	e = place(p, home, &d);
	if (!e) {
		add(&p->share->live, -1);
		return SFC_PIN_FULL;
	}
	spill(p, home, d, 1);
	store(&e->value, value);
	store(&e->refs, 1);
	store(&e->key, key);
	return SFC_PIN_OK;
}

enum sfc_pin_status sfc_pins_insert(const struct sfc_pins *p, uint64_t key, uint64_t value, uint32_t more)
{
	key = key ? key : 1;
	uint64_t home = home_of(p, key);
	lock(bucket(p, home, 0));
	enum sfc_pin_status s = insert_locked(p, home, key, value, more);
	unlock(bucket(p, home, 0));
	if (s == SFC_PIN_TAKEN)
		add(&p->share->taken, 1);
	else if (s == SFC_PIN_FULL)
		add(&p->share->full, 1);
	return s;
}

bool sfc_pins_release(const struct sfc_pins *p, uint64_t key)
{
	key = key ? key : 1;
	uint64_t home = home_of(p, key), d;
	lock(bucket(p, home, 0));
	struct sfc_pin_entry *e = find(p, home, key, &d);
	if (e && add(&e->refs, -1) == 0) {
		store(&e->key, 0);
		add(&e->gen, 1);
		spill(p, home, d, -1);
		add(&p->share->live, -1);
	}
	unlock(bucket(p, home, 0));
	return e != NULL;
}

bool sfc_pins_lookup(const struct sfc_pins *p, uint64_t key, uint64_t *value)
{
	key = key ? key : 1;
	uint64_t home = home_of(p, key);
	for (uint64_t d = 0; d <= SFC_PIN_REACH; d++) {
		struct sfc_pin_bucket *b = bucket(p, home, d);
		for (int i = 0; i < SFC_PIN_ENTRIES; i++) {
			struct sfc_pin_entry *e = &b->e[i];
			if (load(&e->key) != key)
				continue;
			uint32_t g = load(&e->gen);
			if (!(g & 1) || load(&e->key) != key)
				continue;
			uint64_t v = load(&e->value);
			if (load(&e->gen) != g)
				continue;
			*value = v;
			return true;
		}
		if (load(&b->spill) == 0)
			break;
	}
	return false;
}
