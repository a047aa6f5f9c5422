package keeper

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"sfc/ctrl/ipc"
	"sfc/ctrl/kernelipc"
)

// States of a child, in kernelipc.ChildStatus.
const (
	stateStarting = "starting"
	stateReady    = "ready"
	stateStopping = "stopping"
	stateWaiting  = "waiting"
	stateStopped  = "stopped"
)

// minder keeps one child running. Its goroutine alone uses what the Keeper's
// mutex does not guard.
type minder struct {
	k       *Keeper
	role    string
	current *process // nil: none runs
	deaths  deaths
	because string // how the last one died; "" when that was told
	replace chan chan error
	over    chan struct{} // closed when run returns

	status kernelipc.ChildStatus // guarded by k.mu
	due    atomic.Int64          // until then the loop comes around, ns of the monotonic clock
}

func newMinder(k *Keeper, role string) *minder {
	return &minder{
		k: k, role: role, replace: make(chan chan error), over: make(chan struct{}),
		status: kernelipc.ChildStatus{Role: role, State: stateStopped, Since: time.Now()},
	}
}

// run keeps the child running until ctx ends, then ends it.
func (m *minder) run(ctx context.Context) {
	defer close(m.over)
	if m.current != nil {
		m.takeOn(ctx)
	} else {
		m.start(ctx)
	}
	beat := time.NewTicker(beatEvery)
	defer beat.Stop()
	for {
		m.promise(0)
		if m.current == nil {
			if !m.pause(ctx) {
				m.enter(stateStopped, nil)
				return
			}
			m.start(ctx)
			continue
		}
		select {
		case <-ctx.Done():
			m.end()
			return
		case <-m.current.gone:
			m.died(m.current.end)
		case <-m.current.conn.Done():
			// A process that cannot be talked to is no use; most just end.
			select {
			case <-m.current.gone:
			case <-time.After(time.Second):
				m.k.opts.Log.Error("child does not speak any more", "role", m.role, "error", m.current.conn.Err())
				m.current.kill()
				<-m.current.gone
			}
			m.died(m.current.end)
		case why := <-m.current.hung:
			m.current.kill()
			<-m.current.gone
			m.died(why + ", and was killed")
		case done := <-m.replace:
			done <- m.exchange(ctx)
		case <-beat.C:
		}
	}
}

// enter notes a state. p is nil where none runs.
func (m *minder) enter(state string, p *process) {
	m.k.mu.Lock()
	defer m.k.mu.Unlock()
	m.status.State, m.status.Since, m.status.PID = state, time.Now(), 0
	m.status.Retry = time.Time{}
	if p != nil {
		m.status.PID = p.pid
	}
}

// start starts a child; when that fails it is as if it had died.
func (m *minder) start(ctx context.Context) {
	p, err := m.launch(ctx)
	if err == nil {
		err = m.begin(ctx, p)
	}
	if err != nil {
		if ctx.Err() == nil {
			m.died(err.Error())
		}
		return
	}
	m.current = p
}

// launch starts a process, which waits then.
func (m *minder) launch(ctx context.Context) (*process, error) {
	m.promise(m.k.opts.StartWait)
	m.enter(stateStarting, nil)
	return m.k.spawn(ctx, m.role)
}

// begin makes a process that waits do its work, and waits until it does.
func (m *minder) begin(ctx context.Context, p *process) error {
	m.promise(m.k.opts.StartWait)
	m.enter(stateStarting, p)
	began := time.Now()
	wait, cancel := context.WithTimeout(ctx, m.k.opts.StartWait)
	defer cancel()
	m.k.mu.Lock()
	start := kernelipc.Start{Restarts: m.k.restarts, Began: m.k.began, Because: m.because}
	if m.role == kernelipc.RoleDataplane {
		m.k.restarts++
	}
	m.k.mu.Unlock()
	if _, err := ipc.Do[kernelipc.None](wait, p.conn, kernelipc.MethodStart, start); err != nil {
		return m.failed(p, err)
	}
	select {
	case <-p.ready:
	case <-p.gone:
		p.close()
		return fmt.Errorf("%s %s before it was ready", m.role, p.end)
	case <-wait.Done():
		return m.failed(p, ErrNotReady)
	}
	m.k.opts.Log.Info("child is ready", "role", m.role, "pid", p.pid, "took", time.Since(began).Round(time.Millisecond))
	m.attend(p)
	return nil
}

// failed kills a process that did not get to work.
func (m *minder) failed(p *process, err error) error {
	p.kill()
	<-p.gone
	p.close()
	return fmt.Errorf("%s with process id %d: %w", m.role, p.pid, err)
}

// takeOn goes on with a process of an earlier supervisor.
func (m *minder) takeOn(ctx context.Context) {
	p := m.current
	m.promise(m.k.opts.StartWait)
	m.enter(stateStarting, p)
	m.k.mu.Lock()
	m.k.restarts++ // as begin has counted it
	m.k.mu.Unlock()
	select {
	case <-p.ready:
		m.attend(p)
	case <-p.gone: // the loop sees it
	case <-ctx.Done():
	case <-time.After(m.k.opts.StartWait):
		p.kill() // the loop sees that
	}
}

// attend notes that p works.
func (m *minder) attend(p *process) {
	m.enter(stateReady, p)
	if m.role == kernelipc.RoleDataplane && m.k.kernel != nil {
		if err := m.k.kernel.Attend(p.conn); err != nil {
			m.k.opts.Log.Error("steering stays as it was", "error", err)
		}
	}
	m.because = ""
	go p.pulse(m.k.opts.bound(m.role))
	m.k.introduce(p)
}

// died notes the end of a child that nobody asked for, and decides when the
// next one is started.
func (m *minder) died(how string) {
	if p := m.current; p != nil {
		m.k.leaves(p)
		p.close()
		m.current = nil
	}
	m.because = how
	now := time.Now()
	wait, alarm := m.deaths.add(now, m.k.opts.Backoff)
	m.k.opts.Log.Error("child died", "role", m.role, "how", how, "again in", wait, "alarm", alarm)
	m.enter(stateWaiting, nil)
	m.k.mu.Lock()
	raised := alarm && !m.status.Alarm
	m.status.Alarm = alarm
	m.status.Restarts++
	m.status.LastExit = how
	m.status.Retry = now.Add(wait)
	m.k.mu.Unlock()
	if raised && m.role == kernelipc.RoleDataplane && m.k.kernel != nil {
		if err := m.k.kernel.Attend(nil); err != nil {
			m.k.opts.Log.Error("packets that chains claim go nowhere until the data plane runs", "error", err)
		}
	}
}

// pause waits until the next start. It is false when there is none: ctx ended.
func (m *minder) pause(ctx context.Context) bool {
	m.k.mu.Lock()
	wait := time.Until(m.status.Retry)
	m.k.mu.Unlock()
	m.promise(wait)
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case done := <-m.replace:
		done <- nil // the next start is the new binary's, and it is now
	case <-t.C:
	}
	return ctx.Err() == nil
}

// end ends the child because everything ends.
func (m *minder) end() {
	m.promise(m.k.opts.StopWait)
	m.enter(stateStopping, m.current)
	m.k.leaves(m.current)
	if !m.current.stop(m.k.opts.StopWait) {
		m.k.opts.Log.Warn("child did not end in order", "role", m.role, "how", m.current.end)
	}
	m.current = nil
	m.enter(stateStopped, nil)
}

// replaceBy has the child replaced by one of the binary that exePath names now.
func (m *minder) replaceBy(ctx context.Context) error {
	done := make(chan error, 1)
	select {
	case m.replace <- done:
	case <-m.over:
		return fmt.Errorf("replace %s: the supervisor ends", m.role)
	case <-ctx.Done():
		return ctx.Err()
	}
	return <-done
}

// exchange replaces the running child. The new one is started and set up while
// the old one works; then the old one stops at a boundary, and the new one goes
// on with what it left.
func (m *minder) exchange(ctx context.Context) error {
	old := m.current
	next, err := m.launch(ctx)
	if err != nil {
		m.enter(stateReady, old)
		return fmt.Errorf("replace %s: %w", m.role, err)
	}
	m.promise(m.k.opts.StopWait)
	m.enter(stateStopping, old)
	m.k.leaves(old)
	began := time.Now()
	clean := old.stop(m.k.opts.StopWait)
	m.current = nil
	if err := m.begin(ctx, next); err != nil {
		m.died(err.Error())
		return fmt.Errorf("replace %s: %w", m.role, err)
	}
	m.current = next
	m.k.opts.Log.Info("child replaced", "role", m.role, "pid", next.pid, "was", old.pid, "in order", clean,
		"took", time.Since(began).Round(time.Millisecond))
	return nil
}
