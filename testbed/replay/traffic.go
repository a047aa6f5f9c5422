package replay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"sfc/dataplane/packet"
)

// run sends, and takes in what comes out, until every packet has its fate. When
// ctx ends or the capture cannot be read on, it sends no more and returns why.
func (l *live) run(ctx context.Context, src *source, t *tracker, rep *Report, opts Options, s *steering) error {
	if opts.Generic {
		// Generic XDP runs on the backlog of the core that sends: two cores,
		// two backlogs, and packets overtake each other.
		defer stayOnCore()()
	}
	start := time.Now()
	defer func() { rep.Seconds = time.Since(start).Seconds() }()
	batch := make([][]byte, 0, packet.BurstSize)
	sent, eof := 0, false
	last, lastFate := uint64(0), start
	var stopped error
	for {
		if !eof {
			stopped = ctx.Err()
			eof = stopped != nil
		}
		batch = batch[:0]
		for !eof && len(batch) < cap(batch) && t.room() && due(opts.Rate, sent, start) {
			timeNs, data, cut, err := src.next()
			if err != nil {
				eof = true
				if !errors.Is(err, io.EOF) {
					stopped = err
				}
				break
			}
			if t.add(timeNs, data, s.steer(data, cut)) {
				batch = append(batch, data)
			}
			sent++
		}
		if err := l.send(batch); err != nil {
			return err
		}
		if err := l.collect(t, len(batch) == 0); err != nil {
			return err
		}
		switch now := t.progress(); {
		case now != last:
			last, lastFate = now, time.Now()
			opts.Progress(int(now), src.total())
		case eof && t.idle():
			return stopped
		case !t.idle() && time.Since(lastFate) > settleTimeout && t.reconcile():
		case !t.idle() && time.Since(lastFate) > stallTimeout:
			// Whatever this was, it will not come: it is lost, go on.
			t.giveUp()
			lastFate = time.Now()
		case t.idle():
			lastFate = time.Now()
		}
	}
}

// due reports whether the next packet may be sent at the rate asked for.
func due(rate, sent int, start time.Time) bool {
	return rate == 0 || time.Since(start) >= time.Duration(float64(sent)/float64(rate)*float64(time.Second))
}

// send puts a batch on the link, waiting while the link is busy.
func (l *live) send(batch [][]byte) error {
	for tries := 0; len(batch) > 0; {
		n, err := l.sender.Send(batch)
		if err != nil {
			return err
		}
		batch = batch[n:]
		if n > 0 {
			tries = 0
			continue
		}
		if tries++; tries > 20_000 {
			return fmt.Errorf("link %s stays busy", l.c0.Name)
		}
		time.Sleep(50 * time.Microsecond)
	}
	return nil
}

// collect takes in what came out of both ends, and what the steering program
// handled by itself; wait says that there is nothing else to do.
func (l *live) collect(t *tracker, wait bool) error {
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
	seq, err := l.data.Seq(portIn)
	if err != nil {
		return err
	}
	t.steeredUpTo(seq)
	if wait && !got {
		_, err = l.receivers[portOut].Wait(time.Millisecond)
	}
	return err
}
