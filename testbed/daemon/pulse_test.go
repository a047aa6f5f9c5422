package daemon

import (
	"encoding/binary"
	"errors"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// pulse is a flow of numbered datagrams at an even rate. The kernel of the host
// that receives them says when they came, so that it does not matter when this
// process finds the time to read.
type pulse struct {
	to   *net.UDPConn // on the server
	from *net.UDPConn // on the client, connected
	sent atomic.Uint64
	stop chan struct{}
	once sync.Once
	all  sync.WaitGroup

	mu   sync.Mutex
	came []arrival // by number; at is 0 for those that did not come
	// late and twice are those that came behind later ones, and more than once.
	late, twice int
	last        uint64
}

// arrival is when a datagram was sent and when it came, ns of the wall clock.
type arrival struct{ sent, at int64 }

// pulseBuffer is room for seconds of datagrams, in bytes.
const pulseBuffer = 16 << 20

// newPulse sends to a port of the server, a datagram every so often, until the
// test ends.
func newPulse(tb testing.TB, b *bed, port int, every time.Duration) *pulse {
	tb.Helper()
	p := &pulse{stop: make(chan struct{})}
	p.to = b.listen(b.server, serverAddress, port)
	raw, err := p.to.SyscallConn()
	check(tb, err)
	var setErr error
	check(tb, raw.Control(func(fd uintptr) {
		setErr = errors.Join(unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, pulseBuffer),
			unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1))
	}))
	check(tb, setErr)
	check(tb, b.client.Do(func() (err error) {
		p.from, err = net.DialUDP("udp4", nil, &net.UDPAddr{IP: net.ParseIP(serverAddress), Port: port})
		return err
	}))
	p.all.Go(func() { p.receive(tb) })
	p.all.Go(func() { p.send(tb, every) })
	tb.Cleanup(p.close)
	return p
}

// close ends it. Closing again does nothing.
func (p *pulse) close() {
	p.once.Do(func() {
		close(p.stop)
		p.to.Close()
		p.all.Wait()
		p.from.Close()
	})
}

// send keeps to its times: what it missed, it sends at once.
func (p *pulse) send(tb testing.TB, every time.Duration) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	buf := make([]byte, 26) // 68 bytes on the link
	for next := time.Now(); ; next = next.Add(every) {
		time.Sleep(time.Until(next))
		select {
		case <-p.stop:
			return
		default:
		}
		binary.BigEndian.PutUint64(buf, p.sent.Load())
		binary.BigEndian.PutUint64(buf[8:], uint64(time.Now().UnixNano()))
		p.sent.Add(1)
		// Refused: the server's socket was closed, or not yet opened.
		if _, err := p.from.Write(buf); err != nil && !errors.Is(err, unix.ECONNREFUSED) {
			tb.Errorf("pulse: %v", err)
			return
		}
	}
}

func (p *pulse) receive(tb testing.TB) {
	buf, oob := make([]byte, 64), make([]byte, 128)
	for {
		n, oobn, _, _, err := p.to.ReadMsgUDP(buf, oob)
		if errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrDeadlineExceeded) {
			return
		}
		at, ok := timestamp(oob[:oobn])
		if err != nil || n < 16 || !ok {
			tb.Errorf("pulse: %d bytes, time %v, err %v", n, ok, err)
			return
		}
		p.note(binary.BigEndian.Uint64(buf), arrival{int64(binary.BigEndian.Uint64(buf[8:])), at})
	}
}

// timestamp reads SCM_TIMESTAMPNS, a timespec of this machine.
func timestamp(oob []byte) (ns int64, ok bool) {
	list, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return 0, false
	}
	for _, m := range list {
		if m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SCM_TIMESTAMPNS && len(m.Data) >= 16 {
			s, ns := binary.NativeEndian.Uint64(m.Data), binary.NativeEndian.Uint64(m.Data[8:])
			return int64(s)*1e9 + int64(ns), true
		}
	}
	return 0, false
}

func (p *pulse) note(number uint64, a arrival) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for uint64(len(p.came)) <= number {
		p.came = append(p.came, arrival{})
	}
	switch {
	case p.came[number].at != 0:
		p.twice++
	case number < p.last:
		p.late++
	}
	p.came[number], p.last = a, max(p.last, number)
}

// account is what became of a range of datagrams.
type account struct {
	sent, lost int
	// gap is the longest time in which none came.
	gap time.Duration
}

// settleTime is how long datagrams may be on their way when something is being
// replaced.
const settleTime = time.Second

// since returns what became of the datagrams sent from a number on, once the
// latest have come.
func (p *pulse) since(from uint64) (a account) {
	to := p.sent.Load()
	for end := time.Now().Add(settleTime); time.Now().Before(end); time.Sleep(time.Millisecond) {
		p.mu.Lock()
		there := p.last+1 >= to
		p.mu.Unlock()
		if there {
			break
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	before := int64(0)
	for n := from; n < to; n++ {
		a.sent++
		if n >= uint64(len(p.came)) || p.came[n].at == 0 {
			a.lost++
			continue
		}
		if at := p.came[n].at; before != 0 {
			a.gap = max(a.gap, time.Duration(at-before))
			before = max(before, at)
		} else {
			before = at
		}
	}
	return a
}

// first returns when the first datagram came that was sent after a time; zero
// when none has.
func (p *pulse) first(after time.Time) time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, a := range p.came {
		if a.at != 0 && a.sent >= after.UnixNano() {
			return time.Unix(0, a.at)
		}
	}
	return time.Time{}
}

// order fails when datagrams came behind later ones, or twice.
func (p *pulse) order(tb testing.TB) {
	tb.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.late != 0 || p.twice != 0 {
		tb.Errorf("%d datagrams came behind later ones, %d came twice", p.late, p.twice)
	}
}
