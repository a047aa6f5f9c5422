package bpf

import (
	"errors"
	"fmt"
	"sync"

	"github.com/cilium/ebpf/link"
)

// Sink is a program that counts every frame and drops it: the end of a
// benchmark.
type Sink struct {
	objs  sinkObjects
	link  link.Link
	mode  Mode
	close func() error
}

// OpenSink loads the program and attaches it in the given mode.
func OpenSink(ifindex int, mode Mode) (_ *Sink, err error) {
	s := &Sink{}
	s.close = sync.OnceValue(s.release)
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	if err := loadSinkObjects(&s.objs, nil); err != nil {
		return nil, explain(fmt.Errorf("load the sink program: %w", err))
	}
	if s.link, s.mode, err = attach(s.objs.Sink, ifindex, mode); err != nil {
		return nil, fmt.Errorf("attach the sink program: %w", err)
	}
	return s, nil
}

// Mode returns the mode in force.
func (s *Sink) Mode() Mode { return s.mode }

// Totals returns how many frames and bytes arrived. It is one system call.
func (s *Sink) Totals() (frames, bytes uint64, err error) {
	var perCPU []sinkSinkTotal
	if err := s.objs.Totals.Lookup(uint32(0), &perCPU); err != nil {
		return 0, 0, fmt.Errorf("read the sink's totals: %w", err)
	}
	for _, t := range perCPU {
		frames += t.Frames
		bytes += t.Bytes
	}
	return frames, bytes, nil
}

// Close detaches the program. Calls after the first do nothing more.
func (s *Sink) Close() error { return s.close() }

func (s *Sink) release() (err error) {
	if s.link != nil {
		err = s.link.Close()
	}
	return errors.Join(err, s.objs.Close())
}
