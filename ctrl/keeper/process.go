package keeper

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"sfc/ctrl/confine"
	"sfc/ctrl/ipc"
	"sfc/ctrl/kernelipc"
)

// process is a child that runs, or one that an earlier supervisor started.
type process struct {
	role  string
	pid   int
	conn  *ipc.Conn
	path  string        // of the socket where the next supervisor finds it; "" for none
	ready chan struct{} // closed when it said so
	said  sync.Once
	gone  chan struct{} // closed when it has ended
	end   string        // how, valid when gone
	clean bool          // with status 0
	hung  chan string   // why it is to be killed, once
	own   *os.Process   // our own child; nil: an earlier supervisor's
	pidfd int           // of that one, else -1
}

// spawn starts a child and waits for its hello.
func (k *Keeper) spawn(ctx context.Context, role string) (_ *process, err error) {
	ours, theirs, err := ipc.Pair()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	p := &process{role: role, ready: make(chan struct{}), gone: make(chan struct{}), hung: make(chan string, 1), pidfd: -1}
	cmd := k.opts.Command(role, k.exePath())
	cmd.ExtraFiles = []*os.File{theirs}
	if role == kernelipc.RoleControl {
		cmd.ExtraFiles = append(cmd.ExtraFiles, k.listeners...)
	}
	if role == kernelipc.RoleDataplane {
		found, err := k.bind(p)
		if err != nil {
			ours.Close()
			return nil, err
		}
		defer found.Close()
		cmd.ExtraFiles = append(cmd.ExtraFiles, found)
	}
	if err := confine.Start(cmd, k.opts.Identity); err != nil {
		ours.Close()
		p.unlink()
		return nil, fmt.Errorf("start %s: %w", role, err)
	}
	p.own, p.pid = cmd.Process, cmd.Process.Pid
	go p.wait(cmd)
	// Its end of the pair must not stay open here: a child that dies before its
	// hello is then seen at once.
	theirs.Close()
	hello, cancel := context.WithTimeout(ctx, k.opts.StartWait)
	defer cancel()
	p.conn, err = ipc.Open(hello, ours, k.ipcOptions(p))
	if err != nil {
		p.kill()
		<-p.gone
		p.unlink()
		return nil, fmt.Errorf("start %s: %w: it %s", role, err, p.end)
	}
	return p, nil
}

// bind makes the socket where the next supervisor finds the data plane.
func (k *Keeper) bind(p *process) (*os.File, error) {
	k.serial++
	p.path = filepath.Join(k.opts.RunDir, fmt.Sprintf("dataplane-%d-%d.sock", os.Getpid(), k.serial))
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("make a socket: %w", err)
	}
	f := os.NewFile(uintptr(fd), p.path)
	// For its owner alone: the mode is the one before it is bound (unix(7)).
	if err := unix.Fchmod(fd, 0o600); err != nil {
		f.Close()
		return nil, fmt.Errorf("socket %s: %w", p.path, err)
	}
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: p.path}); err != nil {
		f.Close()
		return nil, fmt.Errorf("bind %s: %w: choose a shorter run directory if the path is too long", p.path, err)
	}
	return f, nil
}

// wait notes the end of our own child.
func (p *process) wait(cmd *exec.Cmd) {
	err := cmd.Wait()
	var exit *exec.ExitError
	switch {
	case err == nil:
		p.end, p.clean = "ended", true
	case errors.As(err, &exit):
		p.end = "ended with " + exit.String()
		if s, ok := exit.Sys().(syscall.WaitStatus); ok && s.Signaled() && s.Signal() == syscall.SIGSYS {
			p.end = "was killed for a system call that its filter forbids (SIGSYS)"
		}
	default:
		p.end = "ended: " + err.Error()
	}
	close(p.gone)
}

// adopt connects to a data plane that an earlier supervisor started.
func (k *Keeper) adopt(ctx context.Context, path string) (_ *process, err error) {
	var d net.Dialer
	nc, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	sock := nc.(*net.UnixConn)
	who, err := ipc.Peer(sock)
	if err != nil {
		sock.Close()
		return nil, err
	}
	want := os.Getuid()
	if k.opts.Identity != nil {
		want = k.opts.Identity.UID
	}
	if who.UID != want && who.UID != 0 {
		sock.Close()
		return nil, fmt.Errorf("%s belongs to user %d, process %d: want user %d", path, who.UID, who.PID, want)
	}
	p := &process{role: kernelipc.RoleDataplane, pid: who.PID, path: path, ready: make(chan struct{}), gone: make(chan struct{}), hung: make(chan string, 1)}
	if p.pidfd, err = unix.PidfdOpen(p.pid, 0); err != nil {
		sock.Close()
		return nil, fmt.Errorf("data plane with process id %d: %w", p.pid, err)
	}
	go p.watch()
	if p.conn, err = ipc.OpenConn(ctx, sock, k.ipcOptions(p)); err != nil {
		// It is ours and cannot be talked to, so it cannot be kept.
		p.kill()
		<-p.gone
		unix.Close(p.pidfd)
		return nil, err
	}
	return p, nil
}

// watch notes the end of a process that is not our child.
func (p *process) watch() {
	fds := []unix.PollFd{{Fd: int32(p.pidfd), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(fds, -1)
		if n > 0 || err != nil && err != unix.EINTR {
			break
		}
	}
	p.end = "ended"
	close(p.gone)
}

// kill ends it at once.
func (p *process) kill() {
	select {
	case <-p.gone:
		return
	default:
	}
	if p.pidfd >= 0 {
		_ = unix.PidfdSendSignal(p.pidfd, unix.SIGKILL, nil, 0) // an error: it is gone
		return
	}
	p.own.Kill()
}

// stop tells it to end, and makes it after a while. It returns when it is gone,
// and says whether it did so by itself.
func (p *process) stop(wait time.Duration) (clean bool) {
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	asked := make(chan struct{})
	go func() {
		defer close(asked)
		// An error is that of the connection: then the time will tell.
		_, _ = ipc.Do[kernelipc.None](ctx, p.conn, kernelipc.MethodStop, kernelipc.None{})
	}()
	killed := false
	select {
	case <-p.gone:
	case <-ctx.Done():
		killed = true
		p.kill()
		<-p.gone
	}
	cancel()
	<-asked
	p.close()
	return !killed && (p.clean || p.own == nil)
}

// close gives up what is left of a process that is gone.
func (p *process) close() {
	p.conn.Close()
	p.unlink()
	if p.pidfd >= 0 {
		unix.Close(p.pidfd)
		p.pidfd = -1
	}
}

func (p *process) unlink() {
	if p.path != "" {
		os.Remove(p.path)
	}
}
