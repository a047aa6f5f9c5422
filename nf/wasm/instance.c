/* One guest: a store with one instance in it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "shim.h"

static bool get_func(struct sfc_instance *i, const wasmtime_instance_t *w, const char *name, wasmtime_func_t *f)
{
	wasmtime_extern_t x;
	if (!wasmtime_instance_export_get(i->ctx, w, name, strlen(name), &x))
		return false;
	bool ok = x.kind == WASMTIME_EXTERN_FUNC;
	if (ok)
		*f = x.of.func;
	wasmtime_extern_delete(&x);
	return ok;
}

/* Reads what a call left behind; frees it. */
static int outcome(struct sfc_instance *i, wasmtime_error_t *e, wasm_trap_t *t, char *err)
{
	if (e) {
		sfc_error_read(e, err);
		return i->deadline.late_ns ? SFC_ERR_BUDGET : SFC_ERR_LINK;
	}
	if (t)
		return sfc_trap_read(t, err);
	return SFC_OK;
}

int sfc_instance_new(struct sfc_engine *e, wasmtime_instance_pre_t *pre, struct sfc_layout *l, struct sfc_log *log,
	uint64_t budget_ns, uint64_t table_limit, struct sfc_instance **ret, char *err)
{
	struct sfc_instance *i = calloc(1, sizeof *i);
	if (!i) {
		snprintf(err, SFC_ERRLEN, "out of memory");
		return SFC_ERR_LINK;
	}
	i->log = log;
	i->store = wasmtime_store_new(sfc_engine_wasm(e), i, NULL);
	i->ctx = wasmtime_store_context(i->store);
	wasmtime_store_limiter(i->store, (int64_t)l->limit, (int64_t)table_limit, 1, 1, 1);
	i->engine = e;
	i->ticker = sfc_engine_ticker(e);
	sfc_deadline_attach(i);
	sfc_deadline_enter(i, budget_ns);

	wasmtime_instance_t w;
	wasm_trap_t *trap = NULL;
	sfc_layout_now = l;
	sfc_memory_made = NULL;
	wasmtime_error_t *we = wasmtime_instance_pre_instantiate(pre, i->ctx, &w, &trap);
	sfc_layout_now = NULL;
	sfc_deadline_leave(i);
	i->mem = sfc_memory_made;
	int rc = outcome(i, we, trap, err);
	if (rc == SFC_OK && (!i->mem || !get_func(i, &w, "sfc_process", &i->process) ||
			!get_func(i, &w, "sfc_configure", &i->configure))) {
		snprintf(err, SFC_ERRLEN, "memory, sfc_process or sfc_configure is missing");
		rc = SFC_ERR_LINK;
	}
	if (rc != SFC_OK) {
		sfc_instance_delete(i);
		return rc;
	}
	i->has_tick = get_func(i, &w, "sfc_tick", &i->tick);
	i->has_flow_end = get_func(i, &w, "sfc_flow_end", &i->flow_end);
	i->has_migrate = get_func(i, &w, "sfc_slot_migrate", &i->migrate);
	*ret = i;
	return SFC_OK;
}

int sfc_instance_configure(struct sfc_instance *i, const char *json, uint32_t len, uint64_t budget_ns, int32_t *code,
	char *err)
{
	memcpy(i->mem->base + SFC_CONFIG_START, json, len);
	sfc_deadline_enter(i, budget_ns);
	wasmtime_val_raw_t args[2] = { { .i32 = (int32_t)SFC_CONFIG_START }, { .i32 = (int32_t)len } };
	wasm_trap_t *trap = NULL;
	wasmtime_error_t *we = wasmtime_func_call_unchecked(i->ctx, &i->configure, args, 2, &trap);
	sfc_deadline_leave(i);
	int rc = outcome(i, we, trap, err);
	if (rc != SFC_OK)
		return rc;
	*code = args[0].i32;
	if (*code != 0)
		return SFC_ERR_REFUSED;
	i->mem->sealed = true;
	return SFC_OK;
}

void sfc_instance_delete(struct sfc_instance *i)
{
	wasmtime_store_delete(i->store);
	free(i);
}
