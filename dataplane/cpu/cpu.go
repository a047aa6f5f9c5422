// Package cpu ties a worker to its core.
package cpu

import (
	"fmt"
	"runtime"
	"slices"

	"golang.org/x/sys/unix"
)

// Pin locks the calling goroutine to its thread and the thread to the given
// core, for good: the goroutine ends together with its thread, so that no other
// goroutine ever runs on a thread with a narrowed affinity. When it returns an
// error, nothing was changed.
func Pin(core int) error {
	if core < 0 || core >= maxCores {
		return fmt.Errorf("pin to core %d: want 0 to %d", core, maxCores-1)
	}
	runtime.LockOSThread()
	var set unix.CPUSet
	set.Set(core)
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("pin to core %d: %w; this process may use %v", core, err, Allowed())
	}
	return nil
}

// Allowed returns the cores that the calling thread may run on, in ascending
// order: the machine's cores less what a cgroup or taskset takes away. It is
// empty when the kernel does not say.
func Allowed() []int {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return nil
	}
	cores := make([]int, 0, set.Count())
	for c := range maxCores {
		if set.IsSet(c) {
			cores = append(cores, c)
		}
	}
	return cores
}

// atStart is asked before any thread can have been narrowed.
var atStart = Allowed()

// AtStart returns the cores that this process was allowed when it started. Ask
// this, and not Allowed, for cores to pin to: the calling thread may be one that
// somebody has tied to a core.
func AtStart() []int { return slices.Clone(atStart) }

// maxCores is the number of bits in unix.CPUSet.
const maxCores = 1024
