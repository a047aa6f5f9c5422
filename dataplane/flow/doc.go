// Package flow is the flow table: it tells the packets of a flow, in both
// directions, by one slot number, which indexes the state that functions keep.
//
//	frame, Meta --Reader.Read--> Query --Table.Lookup--> Result{Slot, Flags}
//	                |                        |
//	         Fragments seen           new flow: a free slot
//	                                  ended flow: Table.Drain --> flow end, reuse
//
// A [Reader] belongs to a worker. It turns a packet into a [Query]: the
// normalised tuple and its keyed hash, and for fragments the tuple of the
// packet they are part of. A Query has no pointers: the worker may look it up
// in its own table, hold it, or hand it with the frame to the worker that owns
// the flow ([Query.Owner]).
//
// A [Table] belongs to one service path on one worker, its only writer and
// reader: there are no locks. All its memory is mapped once, outside the Go
// heap. It reads no clock: times are those of the packets.
//
// # What a flow is
//
//   - TCP, UDP, SCTP: addresses, protocol and ports.
//   - ICMP and ICMPv6 queries (echo, timestamp and the like): addresses, kind
//     of query and identifier.
//   - Other protocols, and ICMP messages that are neither query nor error:
//     addresses and protocol.
//   - ICMP errors belong to the flow of the packet they quote, against that
//     packet's direction. They never make a flow nor keep one alive: anybody
//     can forge one.
//   - Later fragments belong to the flow of their first fragment. They never
//     make a flow: they show no ports to decide by.
//
// A flow's direction is that of its first packet; packets against it carry
// [sfc/dataplane/packet.FlagReverse]. If both ends have the same address and
// port there is one direction only.
//
// # The life of a slot
//
//	free --new flow--> live --expired, evicted, replaced--> ended --Drain--> free
//	                    |                                                      ^
//	                    +------------------- Extract --------------------------+
//
// A slot is never given to another flow before the worker has taken it from
// [Table.Drain]: a packet earlier in the same burst may still carry it, and
// functions are to be told first. So that a full table can still take new
// flows during a burst it keeps a reserve of free slots, see [Options.Max].
//
// # A worker's turn
//
//	for each frame of the burst:        reader.Read(frame, meta, &queries[k])
//	table.Lookup(&queries, n, &results) // slots and flags into descriptors
//	run the chain                       // may call table.Bind
//	table.Age(now, 256)
//	for table.Drain(slots[:]) > 0:      report the end, zero the state
package flow
