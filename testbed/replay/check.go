package replay

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"sfc/bpf"
	"sfc/dataplane/packet"
)

// check compares what the steering program of a port counted with what the
// tracker expected.
func (l *live) check(port int, t *tracker, rep *Report) error {
	c, err := l.data.Steered(port)
	if err != nil {
		return err
	}
	if rep.Steering == nil {
		rep.Steering = map[string]uint64{}
	}
	for what, n := range map[string]uint64{
		"redirected": c.Redirected, "passed": c.Passed, "forwarded": c.Forwarded,
		"not_ip": c.NotIP, "neighbour_discovery": c.NeighbourDiscovery, "unmatched": c.Unmatched,
	} {
		rep.Steering[what] += n
	}
	for reason, n := range c.Drops() {
		rep.Steering[reason] += n
	}
	if c.Frames() != uint64(t.sent(port)) {
		err = fmt.Errorf("%w: %d frames were sent to %s, the steering program counted %d", ErrUnbalanced, t.sent(port), ports[port], c.Frames())
	}
	return errors.Join(err, compareSteering(c, t.expected(port)))
}

// missed notes what the far ends had no room for.
func (l *live) missed(rep *Report) error {
	for port, r := range l.receivers {
		n, err := r.Dropped()
		if err != nil {
			return err
		}
		rep.note(n, "were missed by the far end of %s", ports[port])
	}
	return nil
}

// compareSteering finds where the steering program and its mirror in Go were of
// different minds.
func compareSteering(c bpf.Counters, want map[string]uint64) error {
	got := map[string]uint64{steerPath.String(): c.Redirected, steerPass.String(): c.Passed, steerForward.String(): c.Forwarded}
	maps.Insert(got, c.Drops())
	var errs []error
	for _, what := range slices.Sorted(maps.Keys(got)) {
		if got[what] != want[what] {
			errs = append(errs, fmt.Errorf("%w: the steering program counted %d frames as %s, expected were %d", ErrUnbalanced, got[what], what, want[what]))
		}
	}
	return errors.Join(errs...)
}

// note adds what happened to n frames, if there are any.
func (r *Report) note(n uint64, format string, args ...any) {
	if n > 0 {
		r.Notes = append(r.Notes, fmt.Sprintf("%d frames ", n)+fmt.Sprintf(format, args...))
	}
}

// explain notes where the kernel dropped frames on their way through the
// sockets. The workers have stopped: they own some of the counters.
func (l *live) explain(rep *Report) error {
	for port, name := range ports {
		stats, err := l.data.SocketStats(port)
		if err != nil {
			return err
		}
		for _, s := range stats {
			rep.note(s.RxDropped, "did not fit into the chunks of the socket on %s (%d bytes)", name, packet.ChunkSize)
			rep.note(s.RxRingFull, "found the RX ring of the socket on %s full", name)
			rep.note(s.TxRefused, "were refused by %s when they were sent", name)
		}
	}
	return nil
}
