package bpf

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"

	"sfc/dataplane/classify"
	"sfc/dataplane/steer"
)

// ViewDescription is what must be known about the files of a [View]. It is plain
// data, and tells no secret.
type ViewDescription struct {
	Version int
	// Chains is how many rows owners has, beside the last one.
	Chains int
	// PinBytes is the size of the memory of pins; 0: there is none.
	PinBytes int
	CPUs     int // possible ones
	Ports    []int
}

// ExportView describes what the data plane needs of the steering, and returns
// duplicates of the descriptors for it, by name: owners, pins, grace, grace_inner,
// and of each port counters.N and seq.N. They are the caller's to close.
func (s *Steering) ExportView() (ViewDescription, map[string]*os.File, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ViewDescription{}, nil, ErrClosed
	}
	d := ViewDescription{Version: DescriptionVersion, Chains: s.config.rows(), PinBytes: len(s.owners.pinMem), CPUs: s.cpus}
	all := s.files()
	list := map[string]named{}
	pick := func(name string) { list[name] = all[name] }
	pick(fileOwners)
	pick(fileGrace)
	pick(fileGraceInner)
	if d.PinBytes > 0 {
		pick(filePins)
	}
	for i, p := range s.ports {
		if p != nil {
			d.Ports = append(d.Ports, i)
			pick(fileCounters + strconv.Itoa(i))
			pick(fileSeq + strconv.Itoa(i))
		}
	}
	files, err := duplicate(list)
	return d, files, err
}

// View is the part of a steering that the data plane uses, in a process without
// privileges: no method needs a capability. It maps memory of maps, which the
// kernel allows to whoever has the descriptor, and [View.Grace] writes an element
// of a map: bpf(2) with BPF_MAP_UPDATE_ELEM, which a seccomp filter must let
// through. Linux 5.19 and later allow that without CAP_BPF whatever
// kernel.unprivileged_bpf_disabled says; 6.1 is no different from newer ones
// here. Its methods may be called from any goroutine.
type View struct {
	mu           sync.RWMutex // for writing: what follows
	owners, pins []byte
	outer, inner int // descriptors, -1 once closed
	cpus         int
	ports        [classify.MaxPorts]*counterView
	closed       bool
}

// OpenView opens a view of what [Steering.ExportView] described. The files stay
// the caller's and may be closed.
func OpenView(d ViewDescription, files map[string]*os.File) (_ *View, err error) {
	if d.Version != DescriptionVersion || d.Chains < 1 || d.Chains > MaxChains || d.CPUs < 1 || d.CPUs > 1<<16 ||
		d.PinBytes < 0 || d.PinBytes > maxPinBytes || d.PinBytes%pinBucketBytes != 0 {
		return nil, fmt.Errorf("%w: view %+v, this program knows version %d", ErrDescription, d, DescriptionVersion)
	}
	v := &View{outer: -1, inner: -1, cpus: d.CPUs}
	defer func() {
		if err != nil {
			err = fmt.Errorf("open a view of the steering: %w", errors.Join(err, v.Close()))
		}
	}()
	fd := func(name string) int {
		if f := files[name]; f != nil {
			return int(f.Fd())
		}
		return -1
	}
	const both = unix.PROT_READ | unix.PROT_WRITE
	if v.owners, err = mapMemory(fileOwners, fd(fileOwners), steer.OwnersSize(d.Chains), both); err != nil {
		return nil, err
	}
	if d.PinBytes > 0 {
		if v.pins, err = mapMemory(filePins, fd(filePins), d.PinBytes, both); err != nil {
			return nil, err
		}
	}
	for _, m := range []struct {
		to   *int
		name string
	}{{&v.outer, fileGrace}, {&v.inner, fileGraceInner}} {
		if *m.to, err = unix.FcntlInt(uintptr(fd(m.name)), unix.F_DUPFD_CLOEXEC, 0); err != nil {
			*m.to = -1
			return nil, fmt.Errorf("duplicate descriptor of %s: %w", m.name, err)
		}
	}
	for _, i := range d.Ports {
		if err := v.AddPort(i, files); err != nil {
			return nil, err
		}
	}
	return v, nil
}

// AddPort adds a port that came later; of files only the port's are looked at.
func (v *View) AddPort(port int, files map[string]*os.File) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	n := strconv.Itoa(port)
	counters, seq := files[fileCounters+n], files[fileSeq+n]
	switch {
	case v.closed:
		return ErrClosed
	case port < 0 || port >= len(v.ports) || counters == nil || seq == nil:
		return fmt.Errorf("%w: port %d, or a file of it is missing", ErrDescription, port)
	case v.ports[port] != nil:
		return fmt.Errorf("%w: port %d is there already", ErrDescription, port)
	}
	c, err := mapCounters(int(counters.Fd()), int(seq.Fd()), v.cpus)
	if err != nil {
		return fmt.Errorf("port %d: %w", port, err)
	}
	v.ports[port] = c
	return nil
}

// RemovePort forgets a port.
func (v *View) RemovePort(port int) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	c, err := v.port(port)
	if err != nil {
		return err
	}
	v.ports[port] = nil
	return c.close()
}

// port returns a port's counters.
func (v *View) port(i int) (*counterView, error) {
	if i < 0 || i >= len(v.ports) || v.ports[i] == nil {
		return nil, fmt.Errorf("%w: port %d", ErrNoPort, i)
	}
	return v.ports[i], nil
}

// OwnerMemory is that of [Steering.OwnerMemory], until Close.
func (v *View) OwnerMemory() []byte { return v.owners }

// PinMemory is that of [Steering.PinMemory], nil when there is none, until Close.
func (v *View) PinMemory() []byte { return v.pins }

// Counters is [Steering.Counters].
func (v *View) Counters(port int) (Counters, error) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	c, err := v.port(port)
	if err != nil {
		return Counters{}, err
	}
	return c.counters(), nil
}

// Seq is [Steering.Seq].
func (v *View) Seq(port int) (uint32, error) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	c, err := v.port(port)
	if err != nil {
		return 0, err
	}
	return c.seq(), nil
}

// Grace is [Steering.Grace].
func (v *View) Grace() error {
	v.mu.RLock()
	defer v.mu.RUnlock()
	if v.closed {
		return ErrClosed
	}
	if err := putWord(v.outer, 0, uint32(v.inner)); err != nil {
		return fmt.Errorf("wait for running programs: %w", err)
	}
	return nil
}

// Close gives everything back; counters keep their last values, owners and pins
// may not be touched any more. Closing again does nothing.
func (v *View) Close() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.closed {
		return nil
	}
	v.closed = true
	var err error
	for _, mem := range [][]byte{v.owners, v.pins} {
		if mem != nil {
			err = errors.Join(err, unix.Munmap(mem))
		}
	}
	v.owners, v.pins = nil, nil
	for _, fd := range []int{v.outer, v.inner} {
		if fd >= 0 {
			err = errors.Join(err, unix.Close(fd))
		}
	}
	for _, c := range v.ports {
		err = errors.Join(err, c.close())
	}
	return err
}
