// Package keeper is the supervisor: the one process of the daemon with
// privileges, small, and without any input of tenants.
//
//	supervisor -+- data plane   its memory, sockets and programs are kept here, too
//	            `- control
//
// A child that dies is started again, at once the first time, later and later
// when it goes on dying. One that hangs is killed: it is asked all the time
// whether it still moves. A data plane finds everything again that the one before
// had: memory as it was at the instant of the kill, sockets with the packets
// that came meanwhile.
//
// Every descriptor has two holders, the supervisor and the data plane. When the
// supervisor dies, traffic goes on; the next one finds the data plane by a
// socket in the run directory and takes everything back.
package keeper

import (
	"errors"
	"fmt"
	"log/slog"
	"os/exec"
	"time"

	"sfc/ctrl/confine"
	"sfc/ctrl/ipc"
)

// Errors of this package.
var (
	// ErrRunning: another supervisor has the directory.
	ErrRunning = errors.New("another sfcd is running here")
	// ErrNotReady: a child started and was not ready in time.
	ErrNotReady = errors.New("not ready in time")
)

// RunningError says who has a directory.
type RunningError struct {
	Dir string
	PID int // 0: not known
}

func (e *RunningError) Error() string {
	return fmt.Sprintf("%s belongs to the sfcd with process id %d: stop that one, or choose another directory", e.Dir, e.PID)
}

// Is makes errors.Is(err, ErrRunning) true.
func (e *RunningError) Is(target error) bool { return target == ErrRunning }

// Kernel is the kernel's half of the engine: steering programs, sockets, the
// way to the stack. Methods but Serve are called one at a time.
type Kernel interface {
	// Serve makes a data plane's connection answer the methods of kernelipc.
	Serve(m *ipc.Mux)
	// Recover takes the half over that an earlier supervisor made: its
	// descriptors are among those kept. What cannot be taken over is an error;
	// the half is then as if it had never been opened.
	Recover() error
	// Attend says which data plane takes packets from now on. With nil none does
	// for long: packets meet the policies for unmatched packets of their ports.
	Attend(by *ipc.Conn) error
	// Close takes everything down.
	Close() error
}

// Options configure a supervisor. RunDir is required.
type Options struct {
	// RunDir is where sockets are, DataDir where control keeps its data; "" for
	// none. Both are locked.
	RunDir, DataDir string
	// Identity is whom children run as. Nil: the supervisor's own user.
	Identity *confine.Identity
	// Command returns the command for a child of a role, run from the binary
	// exe, with arguments and environment, but neither standard input nor
	// further descriptors.
	Command func(role, exe string) *exec.Cmd
	// Kernel returns the kernel's half, which keeps its descriptors in k. Nil:
	// there is none.
	Kernel func(k *Kept) Kernel
	// Control says that there is a control process as well.
	Control bool
	// Backoff says when children that die are started again.
	Backoff Backoff
	// StartWait is how long a child may take to be ready, StopWait how long to
	// end; then it is killed. Defaults 60 s and 10 s.
	StartWait, StopWait time.Duration
	// HangWait is how long a data plane that is ready may stand still, any of its
	// workers, ControlHangWait how long control: then it is killed, and started
	// again as after a crash. Defaults 2 s and 10 s; below zero for ever.
	HangWait, ControlHangWait time.Duration
	// Log is where it says what happens. Nil: nowhere.
	Log *slog.Logger
}

func (o Options) withDefaults() Options {
	if o.StartWait == 0 {
		o.StartWait = 60 * time.Second
	}
	if o.StopWait == 0 {
		o.StopWait = 10 * time.Second
	}
	if o.HangWait == 0 {
		o.HangWait = 2 * time.Second
	}
	if o.ControlHangWait == 0 {
		o.ControlHangWait = 10 * time.Second
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	o.Backoff = o.Backoff.withDefaults()
	return o
}
