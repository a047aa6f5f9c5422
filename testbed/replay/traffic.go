package replay

import (
	"fmt"
	"time"

	"sfc/dataplane/packet"
	"sfc/testbed/trafgen"
)

// How long to wait for what comes out when there is nothing to send, and when
// there is, as soon as something has come out.
const (
	idleWait    = time.Millisecond
	blockedWait = 50 * time.Microsecond
)

// run sends, and takes in what comes out, until every packet has its fate. When
// the feed ends early, it returns why.
func (l *live) run(f *feed, t *tracker, rep *Report, opts Options) error {
	if opts.Generic {
		// Generic XDP runs on the backlog of the core that sends: two cores,
		// two backlogs, and packets overtake each other.
		defer stayOnCore()()
	}
	start := time.Now()
	defer func() { rep.Seconds = time.Since(start).Seconds() }()
	batch := make([][]byte, 0, packet.BurstSize)
	sent, view := 0, newOutlook(t, f.src, opts)
	for {
		port := -1
		batch = batch[:0]
		for len(batch) < cap(batch) && due(opts.Rate, sent, start) {
			p, send := f.take(port)
			if p == nil {
				break
			}
			sent++
			if send {
				batch, port = append(batch, p.data), p.port
			}
		}
		if err := l.send(port, batch); err != nil {
			return err
		}
		var wait time.Duration
		if len(batch) == 0 {
			if wait = idleWait; f.blocked() {
				wait = blockedWait
			}
		}
		if err := l.collect(t, wait); err != nil {
			return err
		}
		if view.look() && f.ended {
			return f.stopped
		}
	}
}

// due reports whether the next packet may be sent at the rate asked for.
func due(rate, sent int, start time.Time) bool {
	return rate == 0 || time.Since(start) >= time.Duration(float64(sent)/float64(rate)*float64(time.Second))
}

// send puts a batch on the link to a port, waiting while the link is busy.
func (l *live) send(port int, batch [][]byte) error {
	for tries := 0; len(batch) > 0; {
		n, err := l.senders[port].Send(batch)
		if err != nil {
			return err
		}
		batch = batch[n:]
		if n > 0 {
			tries = 0
			continue
		}
		if tries++; tries > 20_000 {
			return fmt.Errorf("link to port %s stays busy", ports[port])
		}
		time.Sleep(50 * time.Microsecond)
	}
	return nil
}

// collect takes in what came out of both ends, and what the steering programs
// handled by themselves. When nothing came it waits a little.
func (l *live) collect(t *tracker, wait time.Duration) error {
	got := false
	for port, r := range l.receivers {
		frames, err := r.Receive()
		if err != nil {
			return err
		}
		for _, f := range frames {
			t.arrived(port, f)
			got = true
		}
	}
	for port := range l.senders {
		seq, err := l.data.Seq(port)
		if err != nil {
			return err
		}
		t.steeredUpTo(port, seq)
	}
	if got || wait == 0 {
		return nil
	}
	_, err := trafgen.Wait(wait, l.receivers...)
	return err
}
