package confine

import (
	"fmt"
	"math"
	"time"

	"golang.org/x/sys/unix"
)

// Limits of a process. Zero fields leave what is there, core dumps aside, which
// nobody gets: they would hold what tenants keep from each other.
type Limits struct {
	// Files is how many descriptors it may have. It is lowered to the hard
	// limit when that is less.
	Files uint64
	// Memlock bounds locked memory, in bytes.
	Memlock uint64
	// Data bounds what it allocates (private writable memory), in bytes.
	Data uint64
	// CPU bounds its CPU time; it is killed at the first full second past it.
	CPU time.Duration
	// FileSize bounds files that it writes, memfds included, in bytes.
	FileSize uint64
}

// Set puts limits on the calling process.
func (l Limits) Set() error {
	set := func(name string, resource int, value uint64) error {
		var now unix.Rlimit
		if err := unix.Getrlimit(resource, &now); err != nil {
			return fmt.Errorf("limit of %s: %w", name, err)
		}
		next := unix.Rlimit{Cur: min(value, now.Max), Max: min(value, now.Max)}
		if err := unix.Setrlimit(resource, &next); err != nil {
			return fmt.Errorf("limit %s to %d: %w", name, value, err)
		}
		return nil
	}
	if err := set("core dumps", unix.RLIMIT_CORE, 0); err != nil {
		return err
	}
	for _, r := range []struct {
		name     string
		resource int
		value    uint64
	}{
		{"descriptors", unix.RLIMIT_NOFILE, l.Files},
		{"locked memory", unix.RLIMIT_MEMLOCK, l.Memlock},
		{"allocated memory", unix.RLIMIT_DATA, l.Data},
		{"CPU seconds", unix.RLIMIT_CPU, uint64(math.Ceil(l.CPU.Seconds()))},
		{"file sizes", unix.RLIMIT_FSIZE, l.FileSize},
	} {
		if r.value == 0 {
			continue
		}
		if err := set(r.name, r.resource, r.value); err != nil {
			return err
		}
	}
	return nil
}

// Seal confines the calling process for good: limits, no tracing and no core
// dumps, and a filter of system calls for all its threads. It needs no
// privileges.
func Seal(f *Filter, l Limits) error {
	if err := l.Set(); err != nil {
		return err
	}
	// Others of the same user may not look into its memory (ptrace(2)).
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("make the process undumpable: %w", err)
	}
	return f.install()
}
