package replay

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"

	"sfc/testbed/capture"
)

// source gives the packets of a capture, as often as asked, with times that
// never jump back between loops.
type source struct {
	file  string
	loops int
	rep   *CaptureReport

	f      *os.File
	size   int64 // of the file in bytes; 0 when it is no regular file
	r      *capture.Reader
	ahead  *capture.Packet // read and not yet given
	loop   int
	begun  bool  // this loop has sent a packet
	shift  int64 // added to the capture's times in this loop
	lastNs int64
}

// loopGap is the time between the last packet of a loop and the first of the
// next, in ns.
const loopGap = 1_000_000

// openSource opens a capture and makes sure that there is something to send.
func openSource(opts Options, rep *CaptureReport) (*source, error) {
	*rep = CaptureReport{File: opts.In, Loops: opts.Loop}
	s := &source{file: opts.In, loops: opts.Loop, rep: rep}
	if err := s.open(); err != nil {
		return nil, err
	}
	p, err := s.r.Next()
	switch {
	case errors.Is(err, io.EOF):
		err = fmt.Errorf("capture %s has no packet to send: record some traffic first", s.file)
	}
	if err != nil {
		s.close()
		return nil, err
	}
	s.ahead = &p
	return s, nil
}

// endsPartWay reports whether the packets read before err are good.
func endsPartWay(err error) bool {
	var cut *capture.TruncatedError
	var bad *capture.CorruptError
	return errors.As(err, &cut) || errors.As(err, &bad)
}

func (s *source) open() error {
	f, err := os.Open(s.file)
	if err != nil {
		return fmt.Errorf("open capture: %w; give the path of a pcap or pcapng file", err)
	}
	st, err := f.Stat()
	if err == nil && st.IsDir() {
		f.Close()
		return fmt.Errorf("open capture: %s is a directory; give the path of a pcap or pcapng file", s.file)
	}
	if err == nil && st.Mode().IsRegular() {
		s.size = st.Size()
	}
	if s.r, err = capture.NewReader(f, s.file); err != nil {
		f.Close()
		return err
	}
	s.f = f
	return nil
}

// total returns how many packets there will be in all loops: exactly once the
// first has ended, before that as the part of the file that was read lets
// expect, 0 when nobody can tell.
func (s *source) total() int {
	packets := float64(s.rep.Packets)
	if off := s.r.Offset(); s.loop == 0 && off > 0 {
		packets *= float64(s.size) / float64(off)
	}
	return int(packets) * s.loops
}

func (s *source) close() {
	if s.f != nil {
		s.f.Close()
		s.f = nil
	}
}

// next returns the next packet, io.EOF after the last loop; cut says that the
// capture holds only the packet's beginning. A capture
// that ends or is damaged part way is sent up to there, which rep.Error tells.
func (s *source) next() (timeNs int64, data []byte, cut bool, err error) {
	for {
		p, err := s.read()
		if err == nil {
			first := s.loop == 0
			if first {
				s.rep.Packets++
				if p.Cut() {
					s.rep.Cut++
				}
			}
			if !first && !s.begun {
				s.shift = later(s.lastNs, loopGap) - p.TimeNs
			}
			s.begun = true
			t := later(p.TimeNs, s.shift)
			s.lastNs = max(s.lastNs, t)
			return t, p.Data, p.Cut(), nil
		}
		switch {
		case errors.Is(err, io.EOF):
		case endsPartWay(err):
			s.rep.Error = err.Error()
		default:
			return 0, nil, false, err
		}
		s.close()
		s.loop++
		s.begun = false
		if s.loop == s.loops {
			return 0, nil, false, io.EOF
		}
		if err := s.open(); err != nil {
			return 0, nil, false, err
		}
	}
}

// read returns the next packet of the file.
func (s *source) read() (capture.Packet, error) {
	if p := s.ahead; p != nil {
		s.ahead = nil
		return *p, nil
	}
	return s.r.Next()
}

// later adds to a time and stops at the end of time, in 2262, where a capture
// with strange times can get in a few loops.
func later(ns, add int64) int64 {
	if add > math.MaxInt64-ns {
		return math.MaxInt64
	}
	return max(ns+add, 0)
}
