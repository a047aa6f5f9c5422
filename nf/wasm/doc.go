// Package wasm runs network functions as WebAssembly guests: it compiles and
// checks modules, makes instances whose memory has the chain's packets mapped
// into it, runs bursts through them, and replaces those that fault.
//
// Wasmtime's own Go API compiles; a small C shim (shim.h) runs, because a call
// through the Go API costs microseconds and a lock.
//
// # With a compiler, and without
//
// [Build] makes an [Artifact] of a module, in a process that may take its time
// and its memory; [Runtime.Load] makes a module of it in the process that has the
// packets, whose runtime has no compiler (Options.NoCompiler). Wasmtime's library
// is linked with both, and its C interface has no engine without Cranelift: what
// is left out is every way to it, and the threads that it would start.
//
// # What outlives the process
//
// Flow state, if GroupOptions.Slots names a store that keeps it: the slots of
// every flow, and what became of them up to the last instruction of the process.
// What instances have in their own memory (globals, heap, counters) goes with
// them, as it does after a fault: a function keeps what must last in slots.
// Flow state that was being handed over to another layout, or that a version of
// another layout finds at its start, is handed over when the group is made.
//
// # System calls
//
// Once the runtime is open, loading, instantiating, running, replacing and
// closing need these, and a test ends at any other:
//
//	mmap, munmap             linear memory, Wasmtime's and the C library's own; never PROT_EXEC
//	mprotect                 linear memory that grows; PROT_READ|PROT_EXEC once per Load, for its code
//	madvise                  MADV_DONTNEED: memory of an instance that is gone
//	memfd_create, ftruncate, fcntl(F_ADD_SEALS, F_DUPFD_CLOEXEC), close
//	                         the regions of package arena
//	lseek                    SEEK_DATA, SEEK_HOLE: flow state to hand over
//	futex, sched_yield       locks, and the ticker when it rests
//	clock_nanosleep          the ticker
//	clock_gettime            where the vDSO has none: the CPU time of a thread
//	rt_sigreturn             after a guest's trap (SIGILL, SIGSEGV, SIGFPE, SIGBUS)
//	sigaltstack              once per thread that runs guests
//	clone3 or clone, set_robust_list, rseq, rt_sigprocmask, rt_sigaction, exit
//	                         threads of Go's
//	brk, mremap, getrandom   the C library's allocator and Go's maps
//
// and those of Go's scheduler: nanosleep, epoll_pwait, epoll_ctl, eventfd2, read,
// write, tgkill, getpid, gettid, prctl (PR_SET_VMA), exit_group. [Open] itself also
// reads /proc/sys/vm/max_map_count unless Options.Mappings is set, installs
// signal handlers (rt_sigaction) and starts a thread.
package wasm
