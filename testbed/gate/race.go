//go:build race

package gate

// Race says that the race detector is compiled in: times and instructions are
// others than those of what runs.
const Race = true
