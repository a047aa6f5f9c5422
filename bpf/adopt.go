package bpf

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"sfc/dataplane/classify"
	"sfc/dataplane/steer"
)

// Adopt takes over what another process exported, which may have been killed
// since: traffic goes on all the while. The files stay the caller's. The rules in
// force are not known; say them again with Update. It needs the privileges that
// Load needs, and two processes must not use a steering at the same time.
func Adopt(d Description, files map[string]*os.File) (_ *Steering, err error) {
	if err := d.validate(); err != nil {
		return nil, err
	}
	s := &Steering{config: d.Config, cpus: d.CPUs, rules: Rules{}.withDefaults(), owners: &ownership{}, grace: &grace{}}
	s.config.MaxChains, s.config.Dynamic = d.Rows, d.Config.Dynamic
	a := &adoption{files: files}
	defer func() {
		if err != nil {
			err = fmt.Errorf("adopt the steering: %w", errors.Join(err, s.Leave()))
		}
	}()
	s.owners.owners = a.array(fileOwners, ebpf.Array, steer.OwnersSize(0), d.Rows+1)
	s.owners.pins = a.array(filePins, ebpf.Array, pinBucketBytes, d.PinBuckets)
	s.grace.outer = a.array(fileGrace, ebpf.ArrayOfMaps, 4, 1)
	s.grace.inner = a.array(fileGraceInner, ebpf.Array, 4, 1)
	l := layoutOf(d.Shape)
	s.table = &tableMaps{
		layout: l,
		active: a.array(fileActive, ebpf.Array, 8, 1),
		tables: a.array(fileTables, ebpf.Array, int(l.size), 2), vectors: a.array(fileVectors, ebpf.Array, l.vectorBytes(), 2*l.classes()),
	}
	for _, pd := range d.Ports {
		for len(s.ports) <= pd.Index {
			s.ports = append(s.ports, nil)
		}
		s.ports[pd.Index] = a.port(&pd, d.CPUs)
	}
	if a.err != nil {
		return nil, a.err
	}
	if err := s.owners.mapAll(d.Pinned); err != nil {
		return nil, err
	}
	if err := s.table.active.Lookup(uint32(0), &s.table.slot); err != nil {
		return nil, fmt.Errorf("read which table counts: %w", err)
	}
	s.table.slot &= 1
	for _, p := range s.ports {
		if p == nil {
			continue
		}
		if p.view, err = mapCounters(p.counters.FD(), p.seq.FD(), d.CPUs); err != nil {
			return nil, err
		}
	}
	// Whoever was killed may just have turned away from a table.
	s.retired.begin(s.grace)
	return s, nil
}

// validate returns what is wrong with a description, which may come from another
// process.
func (d *Description) validate() error {
	if d.Version != DescriptionVersion {
		return fmt.Errorf("%w: it has version %d, this program knows %d", ErrDescription, d.Version, DescriptionVersion)
	}
	if err := d.Shape.validate(); err != nil {
		return err
	}
	c := &d.Config
	if c.Workers < 1 || c.Workers > steer.MaxWorkers || d.Rows < 1 || d.Rows > MaxChains || d.PinBuckets < 1 || d.PinBuckets > maxPinBytes/pinBucketBytes || d.CPUs < 1 || d.CPUs > 1<<16 {
		return fmt.Errorf("%w: %d workers, %d chains, %d buckets of pins, %d CPUs", ErrDescription, c.Workers, d.Rows, d.PinBuckets, d.CPUs)
	}
	seen := [classify.MaxPorts]bool{}
	for _, p := range d.Ports {
		if p.Index < 0 || p.Index >= classify.MaxPorts || seen[p.Index] {
			return fmt.Errorf("%w: port %d, twice or out of range", ErrDescription, p.Index)
		}
		seen[p.Index] = true
		if err := p.Config.validate(p.Index); err != nil {
			return fmt.Errorf("%w: %w", ErrDescription, err)
		}
	}
	return nil
}

// adoption turns files into kernel objects; it keeps the first error.
type adoption struct {
	files map[string]*os.File
	err   error
}

// take duplicates the descriptor of a file, -1 after an error.
func (a *adoption) take(name string) int {
	f := a.files[name]
	if f == nil {
		a.fail(fmt.Errorf("%w: file %s is missing", ErrDescription, name))
	}
	if a.err != nil {
		return -1
	}
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		a.fail(fmt.Errorf("duplicate descriptor of %s: %w", name, err))
		return -1
	}
	return fd
}

func (a *adoption) fail(err error) {
	if a.err == nil {
		a.err = err
	}
}

// array returns a map, which must have the type and size given.
func (a *adoption) array(name string, typ ebpf.MapType, valueBytes, entries int) *ebpf.Map {
	fd := a.take(name)
	if fd < 0 {
		return nil
	}
	m, err := ebpf.NewMapFromFD(fd)
	if err != nil {
		a.fail(fmt.Errorf("map %s: %w", name, err))
		return nil
	}
	if m.Type() != typ || int(m.ValueSize()) != valueBytes || int(m.MaxEntries()) != entries {
		a.fail(fmt.Errorf("%w: map %s is %v of %d x %d bytes, want %v of %d x %d", ErrDescription, name,
			m.Type(), m.MaxEntries(), m.ValueSize(), typ, entries, valueBytes))
	}
	return m
}

// port returns a port.
func (a *adoption) port(d *PortDescription, cpus int) *port {
	n := strconv.Itoa(d.Index)
	p := &port{
		config: d.Config, mode: d.Mode, pairedTo: d.PairedTo,
		xsks: a.array(fileXsks+n, ebpf.XSKMap, 4, MaxQueues*steer.MaxWorkers), pair: a.array(filePair+n, ebpf.DevMap, 4, 1),
		counters: a.array(fileCounters+n, ebpf.Array, countersBytes, cpus), seq: a.array(fileSeq+n, ebpf.Array, seqBytes, 1),
	}
	if fd := a.take(fileProg + n); fd >= 0 {
		prog, err := ebpf.NewProgramFromFD(fd)
		if err != nil {
			a.fail(fmt.Errorf("program of port %s: %w", n, err))
		} else if p.prog = prog; prog.Type() != ebpf.XDP {
			a.fail(fmt.Errorf("%w: program of port %s is %v", ErrDescription, n, prog.Type()))
		}
	}
	if !d.Attached {
		return p
	}
	if fd := a.take(fileLink + n); fd >= 0 {
		l, err := link.NewFromFD(fd)
		if err != nil {
			a.fail(fmt.Errorf("link of port %s: %w", n, err))
			return p
		}
		p.link = l
		if info, err := l.Info(); err != nil || info.XDP() == nil {
			a.fail(fmt.Errorf("%w: link of port %s is none of XDP: %w", ErrDescription, n, err))
		}
	}
	return p
}
