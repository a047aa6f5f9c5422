// Package record makes a capture of real traffic without a network: two hosts
// (network namespaces) joined by a veth pair talk through the kernel's own
// stacks, and everything that crosses the link, both ways, is written down.
//
// What they say is bounded and roughly the same in every run: HTTP over TCP,
// DNS over UDP, pings, a stream of datagrams and telnet connections, over IPv4
// and IPv6, and the ARP and neighbour discovery that the kernels need for it.
// Sequence numbers, ports and times are the kernel's.
package record

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"sfc/testbed/capture"
)

// MaxSeconds bounds a recording: its packets are kept in memory until the end,
// some 4 MB for each second.
const MaxSeconds = 60

// Options configure [Run]. Out is required.
type Options struct {
	// Out is the pcapng file that is written.
	Out string
	// Seconds is how long the hosts talk, 1 to MaxSeconds: they say the same
	// things once a second. Default 3.
	Seconds int
	// Progress is called after each second.
	Progress func(done, total int)
}

func (o Options) withDefaults() Options {
	if o.Seconds == 0 {
		o.Seconds = 3
	}
	if o.Progress == nil {
		o.Progress = func(int, int) {}
	}
	return o
}

// Validate checks what a command line can get wrong.
func (o Options) Validate() error {
	switch {
	case o.Out == "":
		return errors.New("no file to write given: name one with --out")
	case o.Seconds < 0 || o.Seconds > MaxSeconds:
		return fmt.Errorf("seconds %d: record for 1 to %d", o.Seconds, MaxSeconds)
	}
	if _, err := os.Stat(filepath.Dir(o.Out)); err != nil {
		return fmt.Errorf("--out %s: %w: make the folder first", o.Out, err)
	}
	return nil
}

// Report says what was recorded.
type Report struct {
	File    string  `json:"file"`
	Packets uint64  `json:"packets"`
	Bytes   uint64  `json:"bytes"` // of the packets
	Seconds float64 `json:"seconds"`
	Traffic Traffic `json:"traffic"`
}

// Traffic counts what the hosts said.
type Traffic struct {
	HTTPRequests uint64 `json:"http_requests"`
	HTTPBytes    uint64 `json:"http_bytes"` // of the bodies, both ways
	DNSQueries   uint64 `json:"dns_queries"`
	Pings        uint64 `json:"pings"` // echo requests that were answered
	Datagrams    uint64 `json:"datagrams"`
	Telnet       uint64 `json:"telnet"` // connections
}

// ErrNotRoot says what a recording needs.
var ErrNotRoot = errors.New("a recording needs root: CAP_SYS_ADMIN (network namespaces), CAP_NET_ADMIN and CAP_NET_RAW; run it with sudo")

// Run records. When it fails or ctx ends, no file is left behind.
func Run(ctx context.Context, opts Options) (rep *Report, err error) {
	if err := opts.Validate(); err != nil {
		return nil, err
	}
	opts = opts.withDefaults()
	if os.Geteuid() != 0 {
		return nil, ErrNotRoot
	}
	out, err := capture.Create(opts.Out)
	if err != nil {
		return nil, fmt.Errorf("--out: %w", err)
	}
	defer func() {
		if err = errors.Join(err, out.Close()); err != nil {
			rep, err = nil, errors.Join(err, removeFile(opts.Out))
		}
	}()
	rep = &Report{File: opts.Out}
	start := time.Now()
	packets, err := talk(ctx, &rep.Traffic, opts)
	if err != nil {
		return nil, err
	}
	rep.Seconds = time.Since(start).Seconds()
	for _, p := range packets {
		if err := out.Write(p.TimeNs, p.Data, p.OrigLen, ""); err != nil {
			return nil, err
		}
		rep.Packets++
		rep.Bytes += uint64(p.OrigLen)
	}
	return rep, nil
}

// removeFile removes a regular file, and no device that was written to.
func removeFile(path string) error {
	if st, err := os.Lstat(path); err != nil || !st.Mode().IsRegular() {
		return nil
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// talk builds the hosts, lets them talk and returns what was seen, by time.
func talk(ctx context.Context, counts *Traffic, opts Options) (packets []capture.Packet, err error) {
	n, err := openNetwork()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, n.close()) }()
	tap, err := openTap(n.clientEnd)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, tap.close()) }()
	var services []*service
	defer func() {
		for _, s := range services {
			err = errors.Join(err, s.close())
		}
	}()
	for _, open := range []func(*network) (*service, error){openWeb, openNames, openPings, openStream, openTelnet} {
		s, err := open(n)
		if err != nil {
			return nil, err
		}
		services = append(services, s)
	}
	start := time.Now()
	for i := range opts.Seconds {
		if err := sleepUntil(ctx, start.Add(time.Duration(i)*time.Second)); err != nil {
			return nil, err
		}
		if err := round(ctx, services, counts); err != nil {
			return nil, err
		}
		opts.Progress(i+1, opts.Seconds)
	}
	return tap.stop()
}

// service is one kind of traffic. Everything it opened is closed by close.
type service struct {
	name string
	// say runs once a second; it writes only to its own counts.
	say   func(ctx context.Context, counts *Traffic) error
	close func() error
}

// roundTimeout is how long what is said in one second may take on a machine
// that is busy with something else.
const roundTimeout = 30 * time.Second

// round lets all services talk at once and waits for them.
func round(ctx context.Context, services []*service, counts *Traffic) error {
	ctx, done := context.WithTimeout(ctx, roundTimeout)
	defer done()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var all sync.WaitGroup
	for _, s := range services {
		all.Go(func() {
			if err := s.say(ctx, counts); err != nil {
				// The others need not go on; what they then say is no news.
				cancel(fmt.Errorf("%s: %w", s.name, err))
			}
		})
	}
	all.Wait()
	return context.Cause(ctx)
}

// sleepUntil returns at the time given, or earlier with ctx's error.
func sleepUntil(ctx context.Context, t time.Time) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(time.Until(t)):
		return nil
	}
}
