/* Engine and host imports. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "shim.h"

struct sfc_engine {
	wasm_engine_t *wasm;
	wasmtime_linker_t *linker;
	struct sfc_ticker ticker;
	_Atomic uint32_t noted; /* a group wants a round of its janitor */
	uint64_t mappings; /* most that linear memories may have */
	_Atomic uint64_t mapped;
};

uint64_t sfc_now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Keeps what fits of a message, the cause first: what stands before it, a
 * backtrace with names that the guest chose, may be of any length. */
static void keep(const wasm_byte_vec_t *msg, char *err)
{
	static const char caused[] = "\n\nCaused by:\n", native[] = "\n\nStack backtrace:";
	size_t size = msg->size;
	const char *end = memmem(msg->data, size, native, sizeof native - 1);
	if (end)
		size = (size_t)(end - msg->data);
	const char *cause = memmem(msg->data, size, caused, sizeof caused - 1);
	if (!cause) {
		snprintf(err, SFC_ERRLEN, "%.*s", (int)size, msg->data);
		return;
	}
	int before = (int)(cause - msg->data);
	cause += sizeof caused - 1;
	snprintf(err, SFC_ERRLEN, "%.*s: %.*s", (int)(msg->data + size - cause), cause, before, msg->data);
}

/* Reads and frees an error. */
int sfc_error_read(wasmtime_error_t *e, char *err)
{
	wasm_byte_vec_t msg;
	wasmtime_error_message(e, &msg);
	keep(&msg, err);
	wasm_byte_vec_delete(&msg);
	wasmtime_error_delete(e);
	return SFC_ERR_LINK;
}

/* Reads and frees a trap. */
int sfc_trap_read(wasm_trap_t *t, char *err)
{
	wasm_byte_vec_t msg;
	wasm_trap_message(t, &msg);
	keep(&msg, err);
	wasm_byte_vec_delete(&msg);
	wasm_trap_delete(t);
	return SFC_ERR_TRAP;
}

/* sfc.flow_bind(i i32, tuple i32) -> i32, see nf/ABI.md. */
static wasm_trap_t *flow_bind(void *env, wasmtime_caller_t *caller, wasmtime_val_raw_t *args, size_t n)
{
	(void)env;
	(void)n;
	struct sfc_instance *inst = wasmtime_context_get_data(wasmtime_caller_context(caller));
	uint32_t i = (uint32_t)args[0].i32, ptr = (uint32_t)args[1].i32;
	struct sfc_tuple t;
	args[0].i32 = SFC_BIND_NO_FLOW;
	if (!inst->binder)
		return NULL;
	if ((uint64_t)ptr + sizeof t > inst->mem->size) {
		args[0].i32 = SFC_BIND_BAD;
		return NULL;
	}
	memcpy(&t, inst->mem->base + ptr, sizeof t);
	args[0].i32 = sfc_binder_bind(inst->binder, i, &t);
	return NULL;
}

/* sfc.claim(i i32, key_hi i64, key_lo i64, value i64) -> i32 */
static wasm_trap_t *claim(void *env, wasmtime_caller_t *caller, wasmtime_val_raw_t *args, size_t n)
{
	(void)env;
	(void)n;
	struct sfc_instance *inst = wasmtime_context_get_data(wasmtime_caller_context(caller));
	args[0].i32 = inst->binder ? sfc_binder_claim(inst->binder, (uint32_t)args[0].i32, (uint64_t)args[1].i64,
		(uint64_t)args[2].i64, (uint64_t)args[3].i64) : SFC_BIND_NO_FLOW;
	return NULL;
}

/* sfc.claim_find(key_hi i64, key_lo i64) -> i64 */
static wasm_trap_t *claim_find(void *env, wasmtime_caller_t *caller, wasmtime_val_raw_t *args, size_t n)
{
	(void)env;
	(void)n;
	struct sfc_instance *inst = wasmtime_context_get_data(wasmtime_caller_context(caller));
	args[0].i64 = inst->binder ? (int64_t)sfc_binder_find(inst->binder, (uint64_t)args[0].i64, (uint64_t)args[1].i64) : 0;
	return NULL;
}

/* The imports. Types are those of nf.ImportTypes, one letter a value: i for i32,
 * l for i64. */
static const struct {
	const char *name, *params, *results;
	wasmtime_func_unchecked_callback_t f;
} imports[] = {
	{ "log", "iii", "", sfc_log_line },
	{ "emit", "ii", "", sfc_emit },
	{ "flow_bind", "ii", "i", flow_bind },
	{ "claim", "illl", "i", claim },
	{ "claim_find", "ll", "l", claim_find },
};

static void types_of(const char *letters, wasm_valtype_vec_t *vec)
{
	wasm_valtype_t *types[4];
	size_t n = strlen(letters);
	for (size_t i = 0; i < n; i++)
		types[i] = wasm_valtype_new(letters[i] == 'l' ? WASM_I64 : WASM_I32);
	wasm_valtype_vec_new(vec, n, types);
}

static wasmtime_error_t *define_imports(wasmtime_linker_t *linker)
{
	wasmtime_error_t *e = NULL;
	for (size_t i = 0; i < sizeof imports / sizeof imports[0] && !e; i++) {
		wasm_valtype_vec_t params, results;
		types_of(imports[i].params, &params);
		types_of(imports[i].results, &results);
		wasm_functype_t *ty = wasm_functype_new(&params, &results);
		e = wasmtime_linker_define_func_unchecked(linker, "sfc", 3, imports[i].name, strlen(imports[i].name), ty,
			imports[i].f, NULL, NULL);
		wasm_functype_delete(ty);
	}
	return e;
}

struct sfc_engine *sfc_engine_new(uint32_t tick_us, uint64_t mappings, char *err)
{
	struct sfc_engine *e = calloc(1, sizeof *e);
	if (!e) {
		snprintf(err, SFC_ERRLEN, "out of memory");
		return NULL;
	}
	/* Errors come with a backtrace of the host's own frames if the environment
	 * has RUST_BACKTRACE. To name them opens files at the first trap of a guest,
	 * which takes milliseconds, and which a confined process may not do. */
	setenv("RUST_LIB_BACKTRACE", "0", 0);
	/* What a module may use must be equal in newCompiler (compile.go), or the
	 * compiled code is refused here. */
	wasm_config_t *cfg = wasm_config_new();
	wasmtime_config_epoch_interruption_set(cfg, true);
	wasmtime_config_wasm_threads_set(cfg, false);
	wasmtime_config_wasm_tail_call_set(cfg, false);
	wasmtime_config_wasm_relaxed_simd_set(cfg, false);
	wasmtime_config_wasm_multi_memory_set(cfg, false);
	wasmtime_config_wasm_memory64_set(cfg, false);
	wasmtime_config_wasm_function_references_set(cfg, false);
	wasmtime_config_wasm_gc_set(cfg, false);
	/* A trap walks the stack: at the default of 512 KiB endless recursion
	 * took 4.8 ms to end, at 64 KiB it takes well below 1 ms. */
	wasmtime_config_max_wasm_stack_set(cfg, 64 << 10);
	/* Images of initial data need Wasmtime's own mappings: with a memory
	 * creator it aborts the process unless they are off. */
	wasmtime_config_memory_init_cow_set(cfg, false);
	wasmtime_memory_creator_t creator = { .new_memory = sfc_memory_new };
	wasmtime_config_host_memory_creator_set(cfg, &creator);
	e->wasm = wasm_engine_new_with_config(cfg);
	if (!e->wasm) {
		snprintf(err, SFC_ERRLEN, "no engine with this configuration");
		free(e);
		return NULL;
	}
	e->linker = wasmtime_linker_new(e->wasm);
	e->mappings = mappings;
	wasmtime_error_t *we = define_imports(e->linker);
	int rc = 0;
	if (we)
		sfc_error_read(we, err);
	else if ((rc = sfc_ticker_start(&e->ticker, e->wasm, tick_us * 1000)) != 0)
		snprintf(err, SFC_ERRLEN, "start the epoch ticker: %s", strerror(rc));
	if (we || rc) {
		wasmtime_linker_delete(e->linker);
		wasm_engine_delete(e->wasm);
		free(e);
		return NULL;
	}
	return e;
}

void sfc_engine_delete(struct sfc_engine *e)
{
	sfc_ticker_stop(&e->ticker);
	wasmtime_linker_delete(e->linker);
	wasm_engine_delete(e->wasm);
	free(e);
}

uint64_t sfc_engine_claim(struct sfc_engine *e, int64_t n)
{
	uint64_t now = atomic_fetch_add(&e->mapped, (uint64_t)n) + (uint64_t)n;
	if (n <= 0 || now <= e->mappings)
		return 0;
	atomic_fetch_sub(&e->mapped, (uint64_t)n);
	return e->mappings;
}

struct sfc_ticker *sfc_engine_ticker(struct sfc_engine *e) { return &e->ticker; }

void sfc_engine_note(struct sfc_engine *e) { atomic_store(&e->noted, 1); }

bool sfc_engine_noted(struct sfc_engine *e) { return atomic_exchange(&e->noted, 0); }

int sfc_module_load(struct sfc_engine *e, const uint8_t *code, size_t len, wasmtime_module_t **mod,
	wasmtime_instance_pre_t **pre, char *err)
{
	wasmtime_error_t *we = wasmtime_module_deserialize(e->wasm, code, len, mod);
	if (we)
		return sfc_error_read(we, err);
	we = wasmtime_linker_instantiate_pre(e->linker, *mod, pre);
	if (we) {
		wasmtime_module_delete(*mod);
		return sfc_error_read(we, err);
	}
	return SFC_OK;
}

void sfc_module_delete(wasmtime_module_t *mod, wasmtime_instance_pre_t *pre)
{
	wasmtime_instance_pre_delete(pre);
	wasmtime_module_delete(mod);
}

wasm_engine_t *sfc_engine_wasm(struct sfc_engine *e) { return e->wasm; }
