/*
 * What flows hold: the C side of dataplane/steer (pins.go, ledger.go), whose
 * layouts and rules these are. The tables are shared with Go and the steering
 * program.
 */
#ifndef SFC_PINS_H
#define SFC_PINS_H

#include <stdbool.h>
#include <stdint.h>

#define SFC_PIN_ENTRIES 5
#define SFC_PIN_REACH   11
#define SFC_MAX_BINDS   2
#define SFC_MAX_CLAIMS  2

struct sfc_pin_entry { uint64_t key, value; uint32_t refs, gen; };
struct sfc_pin_bucket { uint32_t lock, spill; struct sfc_pin_entry e[SFC_PIN_ENTRIES]; };
struct sfc_pin_share { uint64_t live, most, taken, full; };

struct sfc_pins {
	struct sfc_pin_bucket *buckets; /* NULL: no table */
	uint64_t homes;                 /* number of buckets - SFC_PIN_REACH */
	struct sfc_pin_share *share;
};

enum sfc_pin_status { SFC_PIN_OK, SFC_PIN_HELD, SFC_PIN_TAKEN, SFC_PIN_FULL };

/* more: 1 counts one more holder when the key has the value already (SFC_PIN_OK),
 * 0 leaves it alone (SFC_PIN_HELD). */
enum sfc_pin_status sfc_pins_insert(const struct sfc_pins *, uint64_t key, uint64_t value, uint32_t more);
bool sfc_pins_release(const struct sfc_pins *, uint64_t key);
bool sfc_pins_lookup(const struct sfc_pins *, uint64_t key, uint64_t *value);

struct sfc_ledger_head { uint32_t room, pad[15]; };
struct sfc_holder {
	uint32_t ident; /* 0: no flow */
	uint16_t bucket;
	uint8_t binds, pending;
	uint64_t claims[SFC_MAX_CLAIMS];
};

_Static_assert(sizeof(struct sfc_pin_bucket) == 128, "two cache lines");
_Static_assert(sizeof(struct sfc_holder) == 24, "as in ledger.go");
_Static_assert(sizeof(struct sfc_ledger_head) == 64, "as in ledger.go");

/* struct sfc_tuple of the SDK. */
struct sfc_tuple {
	uint8_t src[16], dst[16];
	uint16_t sport, dport;
	uint8_t proto, family, query, pad;
};
_Static_assert(sizeof(struct sfc_tuple) == 40, "as in flow/wire.go");

/* Whether a packet can show the tuple; then its packet.FlowHash64. */
bool sfc_tuple_hash(const uint64_t secret[2], const struct sfc_tuple *, uint64_t *hash);

/* The key of a claim: hi and lo are the function's, scope says whose. */
uint64_t sfc_claim_key(const uint64_t secret[2], uint64_t scope, uint64_t hi, uint64_t lo);

/* A tuple that a function was promised, for the flow table to be told. */
struct sfc_bound { uint32_t slot, ident; struct sfc_tuple tuple; };

/* What functions of one chain on one worker may give their flows, and the burst
 * under way. The worker's. */
struct sfc_binder {
	struct sfc_pins pins, claims;
	uint64_t secret[2];
	uint16_t chain;
	uint32_t slots;
	struct sfc_ledger_head *head;
	struct sfc_holder *flows; /* by slot */

	/* The call under way: descriptors [0, n) are packets idx[0], idx[1] ... of
	 * a burst, whose flows are in slot. n is 0 outside of sfc_process. */
	uint32_t n, hop;
	const uint8_t *idx;
	const uint32_t *slot;

	uint32_t nbound; /* promised in this burst */
	struct sfc_bound bound[64 * SFC_MAX_BINDS];
};

/* Answers of the imports; SFC_BIND_... of the SDK. */
enum { SFC_BIND_OK, SFC_BIND_TAKEN, SFC_BIND_FULL, SFC_BIND_NO_FLOW, SFC_BIND_LIMIT, SFC_BIND_BAD };

int32_t sfc_binder_bind(struct sfc_binder *, uint32_t i, const struct sfc_tuple *);
int32_t sfc_binder_claim(struct sfc_binder *, uint32_t i, uint64_t hi, uint64_t lo, uint64_t value);
uint64_t sfc_binder_find(struct sfc_binder *, uint64_t hi, uint64_t lo);

#endif
