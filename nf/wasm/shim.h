/*
 * The C side of the runtime: everything that runs between the worker's one
 * call per burst and its return. Go compiles, checks and replaces; C calls
 * guests, keeps their deadlines and settles their verdicts.
 *
 * Files: engine.c (engine, host imports), ticker.c (epoch ticker), memory.c (linear
 * memory with the window mapped over it), instance.c (one guest), log.c and
 * emit.c (its log lines and records), deadline.c (the CPU time of its calls),
 * chain.c (a burst through the functions of a path), between.c (what they are
 * told between bursts), canary.c (a version on trial beside the one that runs),
 * trace.c (what functions do with chosen packets), migrate.c (flow state from
 * one version of a function to the next).
 */
#ifndef SFC_SHIM_H
#define SFC_SHIM_H

#include <pthread.h>
#include <stdatomic.h>
#include "pins.h"
#include "wasmtime_abi.h"

/* Guest addresses; nf/abi.go has the same numbers and a test compares them. */
#define SFC_WINDOW_START   0x01000000u
#define SFC_DESC_START     0x01001000u
#define SFC_CONTROL_SIZE   0x4000u
#define SFC_FRAMES_START   0x02000000u
#define SFC_PRIVATE_START  0x08000000u
#define SFC_OLD_STATE      0x08008000u
#define SFC_CONFIG_START   0x08010000u
#define SFC_CONFIG_MAX     0x100000u
#define SFC_SLOTS_START    0x09000000u
#define SFC_DATA_START     0x10000000u

#define SFC_BURST     64
#define SFC_CHUNK     2048u
#define SFC_MIN_FRAME 14u
#define SFC_MAX_HOPS  16
#define SFC_REASONS   64   /* reason numbers 1..63 may be declared */
#define SFC_ERRLEN    512
#define SFC_LOG_LINES 32
#define SFC_LOG_BYTES 256
#define SFC_LATENCY   256
#define SFC_RECORD_MAX   512u
#define SFC_RECORDS_SIZE (4u << 20) /* bytes; a power of two */

enum { SFC_ABORT, SFC_DROP, SFC_NEXT, SFC_TX, SFC_PASS, SFC_VERDICTS };

/* Engine reasons, see dataplane/packet/reason.go. */
enum {
	SFC_R_FAULT = 6, SFC_R_BUDGET, SFC_R_NO_VERDICT, SFC_R_BAD_DESCRIPTOR, SFC_R_BAD_PORT, SFC_R_SUSPENDED,
};

struct sfc_desc { /* packet.Desc */
	uint32_t chunk;
	uint16_t off, len;
	uint16_t l3, l4;
	uint8_t proto, pad0;
	uint16_t flags;
	uint32_t slot, hash;
	uint64_t rx_ns;
	uint16_t in_port, out_port;
	uint32_t mark;
	uint8_t verdict, pad1;
	uint16_t reason;
	uint16_t vlan;
	uint8_t pad2[18];
} __attribute__((may_alias));
_Static_assert(sizeof(struct sfc_desc) == 64, "descriptor is one cache line");

struct sfc_frame { uint32_t chunk; uint16_t off, len; };
struct sfc_out { uint8_t verdict, hop; uint16_t reason, port; uint8_t fault, trial; };

struct sfc_burst { /* packet.Burst */
	uint32_t n;
	uint16_t path, pad;
	uint64_t now_ns;
	struct sfc_frame frames[SFC_BURST];
	struct sfc_out out[SFC_BURST];
	uint32_t slot[SFC_BURST];
	uint16_t bucket[SFC_BURST];
	/* what follows in Go is not the shim's */
};

/* Where packets are followed, see trace.c. */
#define SFC_TRACE_RECORDS 256
#define SFC_TRACE_DATA    (2 * SFC_BURST * SFC_CHUNK)
enum { SFC_TRACE_BEFORE = 1, SFC_TRACE_AFTER = 2 };

struct sfc_trace_record { /* packet.HopRecord */
	uint64_t took_ns;
	uint32_t mark_before, mark;
	struct sfc_frame before, after;
	uint32_t before_at, after_at;
	uint16_t before_len, after_len;
	uint16_t port_before, port;
	uint16_t reason, burst;
	uint8_t packet, hop, verdict, fault;
	uint8_t trial, pad[7];
};
struct sfc_trace { /* packet.HopTrace */
	uint64_t want;
	uint32_t hops;
	uint16_t snap, sides;
	uint32_t n, used, lost, pad;
	struct sfc_trace_record record[SFC_TRACE_RECORDS];
	uint8_t data[SFC_TRACE_DATA];
};

struct sfc_control { uint32_t abi, burst; uint64_t now_ns; uint32_t path, worker, ports, chunk_len; };

/* How many lines the functions of a tenant may write together; any thread. */
struct sfc_log_quota {
	_Atomic uint64_t cost_ns;    /* of a line; 0: nothing */
	_Atomic uint64_t paid_until; /* the clock's time up to which lines were taken */
	_Atomic uint64_t suppressed;
};

/* Lines a guest wrote with sfc.log. One producer (the thread that runs the
 * guest), one consumer (Go). It outlives the instances of its function. */
struct sfc_log {
	_Atomic uint32_t head, tail;
	_Atomic uint64_t suppressed; /* lines over the rate or the ring */
	uint64_t tokens_ns;          /* token bucket, in ns of credit */
	uint64_t last_ns;
	struct sfc_log_quota *quota;
	_Atomic uint32_t *noted;     /* the chain's */
	struct { uint8_t level; uint16_t len; char text[SFC_LOG_BYTES]; } line[SFC_LOG_LINES];
};

/* Records a guest emitted, see emit.c. One producer, one consumer; it outlives
 * the instances of its function. */
struct sfc_record_head { uint32_t layouts, len; }; /* number of the manifest; bytes */
struct sfc_records {
	_Atomic uint64_t head, tail; /* bytes, ever growing */
	_Atomic uint64_t lost;
	uint8_t data[SFC_RECORDS_SIZE] __attribute__((aligned(8)));
};

/* What the linear memories of one function are made of, and those that are
 * mapped but out of use: mapping one takes longer than all the rest of an
 * instantiation. Made by sfc_layout_new; freed after the last instance. */
struct sfc_layout {
	struct sfc_engine *engine;
	int control_fd;      /* SFC_CONTROL_SIZE bytes */
	int frames_fd;
	uint64_t frames_len;
	int slots_fd;        /* flow state, slots_len bytes; unused when 0 */
	uint64_t slots_len;
	uint32_t slot_bytes; /* of a flow; 0: no flow state */
	int scrap_fd;
	uint64_t scrap_len;
	uint32_t stack_top;  /* [0, stack_top) is private */
	uint64_t limit;      /* highest memory.size in bytes */
	pthread_mutex_t lock;
	struct sfc_memory *idle; /* reset and ready */
};

struct sfc_memory {
	uint8_t *map;        /* what mmap gave */
	uint64_t map_len;
	uint8_t *base;       /* guest address 0; 2 MiB aligned */
	uint64_t size, minimum, reserved;
	bool sealed;         /* configured: no more growth */
	struct sfc_layout *layout;
	struct sfc_memory *next; /* when idle */
};

/* The deadline of the call under way, see deadline.c. */
struct sfc_deadline {
	uint64_t budget_ns; /* CPU time */
	uint64_t tick;      /* when it started, in epoch ticks */
	uint64_t ref_ns;    /* thread's CPU time when first looked at, 0: not yet */
	uint64_t late_ns;   /* CPU time taken, when it was too late */
	uint32_t suspect;   /* calls still to be measured whole */
	bool entered;       /* sfc_ticker_enter has counted it */
};

/* The epoch ticker, see ticker.c. */
struct sfc_ticker {
	wasm_engine_t *wasm;
	pthread_t thread;
	uint32_t period_ns;
	_Atomic uint64_t linger_ns;
	_Atomic bool stop;
	_Atomic uint64_t ticks;
	_Atomic uint32_t used;   /* a burst met a guest since the last tick */
	_Atomic uint32_t inside; /* calls under way that sfc_ticker_enter counts */
	_Atomic uint32_t asleep; /* a futex */
};

struct sfc_instance {
	struct sfc_engine *engine;
	struct sfc_ticker *ticker;
	struct sfc_deadline deadline;
	wasmtime_store_t *store;
	wasmtime_context_t *ctx;
	struct sfc_memory *mem;
	wasmtime_func_t process, configure, tick, flow_end, migrate;
	bool has_tick, has_flow_end, has_migrate;
	struct sfc_log *log;
	struct sfc_records *records; /* NULL: nobody reads any */
	uint32_t layouts;            /* number of its manifest there */
	struct sfc_binder *binder; /* of the chain that called it last; NULL: none yet */
};

struct sfc_stats {
	uint64_t bursts, packets;
	uint64_t verdicts[SFC_VERDICTS];
	uint64_t reasons[SFC_REASONS]; /* index 0: drops with an undeclared number */
	uint64_t engine[16];           /* packets the engine decided for it, by engine reason */
	uint64_t skipped;              /* packets passed over by policy open */
	uint64_t traps, overruns;
	uint64_t timed_ns, timed_packets, timed_max;
	uint64_t latency[SFC_LATENCY]; /* timed bursts, by latency_class */
};

/* Flow state under way from the version before, see migrate.c. */
struct sfc_migration {
	const uint8_t *old;  /* its slots, as the host sees them */
	uint32_t old_bytes;  /* of each */
	uint32_t slots;      /* how many */
	uint64_t moved;      /* flows handed over */
	uint64_t *done;      /* bit per slot: nothing is left to hand over */
};

/* A function of a chain. What belongs to the version that runs is exchanged
 * with it, between bursts. */
struct sfc_hop {
	struct sfc_instance *inst; /* NULL: suspended */
	struct sfc_migration *migration; /* NULL: none under way */
	uint64_t budget_ns;
	uint64_t late_ns;          /* CPU time of the last overrun, 0 after other faults */
	uint32_t reasons;          /* how many the manifest declares */
	bool open;                 /* fault policy */
	uint8_t trial;             /* 1: some flows' alternative to the hop's version */
	struct sfc_canary *canary; /* NULL: none */
	char trap[SFC_ERRLEN];     /* message of the last trap */
	struct sfc_stats *stats;   /* of the version */
};

/* A version on trial beside the one that runs, see canary.c. */
struct sfc_canary {
	struct sfc_hop hop;
	uint32_t split; /* flows of buckets below meet it */
	uint32_t slots; /* how many the chain has; 0: the function keeps no flow state */
	uint64_t *met;  /* bit per slot: its flow has met it */
	struct sfc_desc aside[SFC_BURST], ran[SFC_BURST];
};

struct sfc_chain {
	uint32_t nhops;
	uint16_t egress;    /* of packets no function said anything about */
	uint64_t ports;     /* those that functions may send on */
	struct sfc_desc *desc;
	struct sfc_control *control;
	struct sfc_binder *binder; /* NULL: functions have nothing to give their flows */
	_Atomic uint32_t noted; /* there is something for the janitor */
	uint64_t time_mask; /* time functions on bursts where (count & mask) == 0 */
	uint64_t count;
	const uint8_t *frames; /* the frame region, as the host sees it */
	uint64_t frames_len;
	uint64_t where[SFC_BURST]; /* descriptor's first 8 bytes as they should be */
	struct sfc_desc saved[SFC_BURST];
	struct sfc_hop hop[SFC_MAX_HOPS];
};

/* The functions of a path, in its order; each at most once. */
struct sfc_order {
	uint32_t n;
	uint8_t hop[SFC_MAX_HOPS];
};

struct sfc_engine;

struct sfc_engine *sfc_engine_new(uint32_t tick_us, uint64_t mappings, char *err);
void sfc_engine_delete(struct sfc_engine *);
wasm_engine_t *sfc_engine_wasm(struct sfc_engine *);
struct sfc_ticker *sfc_engine_ticker(struct sfc_engine *);
/* Says that a chain is noted; tells, once, that one is. */
void sfc_engine_note(struct sfc_engine *);
bool sfc_engine_noted(struct sfc_engine *);
/* Claims or gives back n of the mappings that all memories together may have;
 * 0, or what they may have when that is too few. */
uint64_t sfc_engine_claim(struct sfc_engine *, int64_t n);
int sfc_module_load(struct sfc_engine *, const uint8_t *code, size_t len, wasmtime_module_t **, wasmtime_instance_pre_t **,
	char *err);
void sfc_module_delete(wasmtime_module_t *, wasmtime_instance_pre_t *);

wasmtime_error_t *sfc_memory_new(void *env, const wasm_memorytype_t *, size_t minimum, size_t maximum, size_t reserved,
	size_t guard, wasmtime_linear_memory_t *ret);
/* log.c */
wasm_trap_t *sfc_log_line(void *env, wasmtime_caller_t *, wasmtime_val_raw_t *args, size_t n);
/* emit.c */
struct sfc_records *sfc_records_new(void);
void sfc_records_delete(struct sfc_records *);
wasm_trap_t *sfc_emit(void *env, wasmtime_caller_t *, wasmtime_val_raw_t *args, size_t n);
/* ticker.c; start: 0 or an error number */
int sfc_ticker_start(struct sfc_ticker *, wasm_engine_t *, uint32_t period_ns);
void sfc_ticker_stop(struct sfc_ticker *);
void sfc_ticker_budget(struct sfc_ticker *, uint64_t budget_ns);
void sfc_ticker_enter(struct sfc_ticker *);
void sfc_ticker_leave(struct sfc_ticker *);
void sfc_ticker_wake(struct sfc_ticker *);

/* Says that a burst meets a guest, so that there are ticks. Not more than once
 * between two ticks it is a full barrier. */
static inline void sfc_ticker_use(struct sfc_ticker *t)
{
	if (!atomic_load_explicit(&t->used, memory_order_relaxed)) {
		atomic_exchange(&t->used, 1);
		if (atomic_load(&t->asleep))
			sfc_ticker_wake(t);
	} else if (__builtin_expect(atomic_load_explicit(&t->asleep, memory_order_relaxed), 0)) {
		sfc_ticker_wake(t); /* who set used has not come to it yet */
	}
}

static inline uint64_t sfc_ticker_ticks(struct sfc_ticker *t)
{
	return atomic_load_explicit(&t->ticks, memory_order_relaxed);
}

/* deadline.c. Start is for calls of a burst. A call that comes seldom enters
 * before and leaves after. */
void sfc_deadline_attach(struct sfc_instance *);
void sfc_deadline_start(struct sfc_instance *, uint64_t budget_ns);
void sfc_deadline_enter(struct sfc_instance *, uint64_t budget_ns);
void sfc_deadline_leave(struct sfc_instance *);
uint64_t sfc_deadline_end(struct sfc_instance *);

struct sfc_layout *sfc_layout_new(struct sfc_engine *);
void sfc_layout_delete(struct sfc_layout *);
extern _Thread_local struct sfc_layout *sfc_layout_now;
extern _Thread_local struct sfc_memory *sfc_memory_made;

/* Errors of sfc_instance_*: 0 fine, else one of these with a message. */
enum { SFC_OK, SFC_ERR_LINK, SFC_ERR_TRAP, SFC_ERR_BUDGET, SFC_ERR_REFUSED };

int sfc_instance_new(struct sfc_engine *, wasmtime_instance_pre_t *, struct sfc_layout *, struct sfc_log *,
	uint64_t budget_ns, uint64_t table_limit, struct sfc_instance **, char *err);
int sfc_instance_configure(struct sfc_instance *, const char *json, uint32_t len, uint64_t budget_ns, int32_t *code,
	char *err);
void sfc_instance_delete(struct sfc_instance *);
int sfc_trap_read(wasm_trap_t *, char *err);
int sfc_error_read(wasmtime_error_t *, char *err);
uint64_t sfc_now_ns(void);

/* All return a bit set of the hops whose instance died in this call; shifted by
 * SFC_MAX_HOPS, of those whose version on trial did. */
uint32_t sfc_chain_process(struct sfc_chain *, struct sfc_burst *, const struct sfc_order *);
uint32_t sfc_chain_process_traced(struct sfc_chain *, struct sfc_burst *, const struct sfc_order *, struct sfc_trace *);
uint32_t sfc_chain_tick(struct sfc_chain *, uint64_t now_ns);
uint32_t sfc_chain_flow_end(struct sfc_chain *, const uint32_t *slots, uint32_t n);

/* chain.c: ends a call that sfc_deadline_start began, SFC_OK or how it failed. */
int sfc_call_end(struct sfc_hop *, wasmtime_error_t *, wasm_trap_t *);

/* Calls a function of one parameter. */
static inline int sfc_call(struct sfc_hop *hop, wasmtime_func_t *f, wasmtime_val_raw_t *arg)
{
	wasm_trap_t *trap = NULL;
	sfc_deadline_start(hop->inst, hop->budget_ns);
	wasmtime_error_t *e = wasmtime_func_call_unchecked(hop->inst->ctx, f, arg, 1, &trap);
	return sfc_call_end(hop, e, trap);
}

/* canary.c */
struct sfc_canary *sfc_canary_new(uint32_t slots);
void sfc_canary_delete(struct sfc_canary *);
uint32_t sfc_canary_split(struct sfc_chain *, const struct sfc_burst *, uint32_t h, uint8_t *idx, uint32_t n, uint8_t *other,
	uint32_t *nother);
void sfc_canary_turn(struct sfc_chain *, uint32_t h, uint32_t nran, uint32_t nother);
uint32_t sfc_canary_join(struct sfc_chain *, uint32_t h, uint8_t *idx, uint32_t n, const uint8_t *other, uint32_t nother);
void sfc_canary_sort(struct sfc_canary *, const uint32_t *slots, uint32_t n, uint32_t of[2][SFC_BURST], uint32_t have[2]);

/* trace.c */
uint32_t sfc_trace_in(struct sfc_trace *, const struct sfc_chain *, const struct sfc_burst *, uint32_t h, uint8_t trial,
	const uint8_t *idx, uint32_t n);
void sfc_trace_ran(struct sfc_trace *, const struct sfc_chain *, uint32_t first, uint32_t h, const uint8_t *idx, uint32_t n,
	uint64_t took_ns);
void sfc_trace_out(struct sfc_trace *, const struct sfc_chain *, const struct sfc_burst *, uint32_t first, const uint8_t *idx,
	uint32_t n, uint16_t fault);

/* migrate.c. Those that return int: SFC_OK, or how the guest failed. */
struct sfc_migration *sfc_migration_new(const uint8_t *old, uint32_t old_bytes, uint32_t slots);
void sfc_migration_delete(struct sfc_migration *);
int sfc_migrate(struct sfc_hop *, const uint32_t *slots, uint32_t n);
int sfc_migrate_range(struct sfc_chain *, uint32_t h, uint32_t *from, uint32_t to, uint32_t most);
int sfc_migrate_bytes(struct sfc_chain *, uint32_t h, const uint8_t *old, uint32_t len, uint32_t slot);

#endif
