package replay

import (
	"runtime"

	"golang.org/x/sys/unix"

	"sfc/dataplane/cpu"
)

// stayOnCore keeps the calling goroutine on the first core it may use until the
// function it returns is called. Where that is not possible, it may move.
func stayOnCore() (release func()) {
	runtime.LockOSThread()
	var before, one unix.CPUSet
	cores := cpu.Allowed()
	if len(cores) == 0 || unix.SchedGetaffinity(0, &before) != nil {
		return runtime.UnlockOSThread
	}
	one.Set(cores[0])
	if unix.SchedSetaffinity(0, &one) != nil {
		return runtime.UnlockOSThread
	}
	return func() {
		if unix.SchedSetaffinity(0, &before) == nil {
			runtime.UnlockOSThread()
		} // else the goroutine keeps its thread, which ends with it
	}
}
