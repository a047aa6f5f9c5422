/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0 */
/* The maps of one port. Sizes given as 1 are set when the program is loaded. */
#pragma once

#include "steer_meta.h"

/* The AF_XDP socket of each receive queue and worker: queue * MAX_WORKERS +
 * worker.
 */
struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(key_size, 4);
	__uint(value_size, 4);
	__uint(max_entries, 1);
} xsks SEC(".maps");

/* The interface of the paired port, if there is one. */
struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP);
	__uint(key_size, 4);
	__uint(value_size, 4);
	__uint(max_entries, 1);
} pair SEC(".maps");

/* Outcomes, one slot per CPU, read by user space through a mapping. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct sfc_counters);
} counters SEC(".maps");

/* The sequence number, one for all CPUs. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct sfc_seq);
} seq SEC(".maps");

/* Which of the two tables in tables and vectors counts, 0 or 1. All ports share
 * it: one store gives all of them another table.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_RDONLY_PROG);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, u64);
} active SEC(".maps");

/* Classification, from value to class: for each table one value that holds all
 * dimensions, at the offsets tbl_*. Shared by all ports.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_RDONLY_PROG);
	__uint(key_size, 4);
	__uint(value_size, 8);
	__uint(max_entries, 1);
} tables SEC(".maps");

/* Classification, from class to rule vector: a summary word, then tbl_words
 * words; tbl_classes of them for each table. Shared by all ports.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_RDONLY_PROG);
	__uint(key_size, 4);
	__uint(value_size, 8);
	__uint(max_entries, 1);
} vectors SEC(".maps");

/* Ownership: a row of BUCKETS words for each chain, and one more for packets
 * whose headers do not tell their flow. Shared by all ports and with user space,
 * which changes owners; see steer.Owners.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__uint(key_size, 4);
	__uint(value_size, BUCKETS * 8);
} owners SEC(".maps");

/* Tuples that belong to another flow's bucket. Shared by all ports and with user
 * space, which writes it; see steer.Pins.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct sfc_pins);
} pins SEC(".maps");
