// Package bench measures the engine as a whole: alone, with packets from and to
// memory, and on links against other forwarders. It has tests only; what each
// of them measures is in docs/benchmarks.md, with the commands.
//
//	go test ./testbed/bench -run '^$' -bench Engine      the engine alone
//	make bench-peers                                      against others, as root
//
// Packets in memory cost the engine nothing but the writing of their headers: a
// port makes each frame out of a template of its kind and the few fields that
// are the packet's own, as a device's DMA would without the core's help. What
// remains of that is in every number, and shows in the chain without functions.
package bench
