// Package daemon holds the daemon to what its users are promised. Its tests
// build sfcd and sfcctl, run them between two hosts as an operator would, and
// do to them what happens to daemons: processes are killed in the middle of
// traffic, replaced and started again, clients are written by generators.
//
// Counts are asserted: packets, flows, connections, objects. Times are logged,
// and asserted only far above what docs/benchmarks.md promises, as machines that
// run tests do other things besides. `make bench-daemon` measures them.
package daemon
