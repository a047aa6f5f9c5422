package bpf

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// DescriptionVersion is that of [Description] and of the maps it speaks of. A
// program that has another one cannot adopt.
const DescriptionVersion = 1

// Description is what must be known about a steering besides its files, to adopt
// it in another process. It is plain data, for the same package elsewhere. It
// holds the secret hash key.
type Description struct {
	Version int
	Config  Config // Table, Chains and PathChain aside
	// Rows and PinBuckets are the elements of maps owners and pins.
	Rows, PinBuckets int
	// Pinned: there is memory for pins.
	Pinned bool
	Shape  shape
	CPUs   int // possible ones
	Ports  []PortDescription
}

// PortDescription is a port of a [Description].
type PortDescription struct {
	Index    int
	Config   PortConfig
	Attached bool
	Mode     Mode
	PairedTo int
}

// Names of files: the maps that all ports share, and of each port those with its
// index behind.
const (
	fileOwners, filePins, fileGrace, fileGraceInner     = "owners", "pins", "grace", "grace_inner"
	fileActive, fileTables, fileVectors                 = "active", "tables", "vectors"
	fileProg, fileXsks, filePair, fileCounters, fileSeq = "prog.", "xsks.", "pair.", "counters.", "seq."
	fileLink                                            = "link."
)

// named is a descriptor of the steering's, by name.
type named interface{ FD() int }

// files returns all descriptors.
func (s *Steering) files() map[string]named {
	out := map[string]named{
		fileOwners: s.owners.owners, filePins: s.owners.pins, fileGrace: s.grace.outer, fileGraceInner: s.grace.inner,
		fileActive: s.table.active, fileTables: s.table.tables, fileVectors: s.table.vectors,
	}
	for i, p := range s.ports {
		if p == nil {
			continue
		}
		n := strconv.Itoa(i)
		out[fileProg+n], out[fileXsks+n], out[filePair+n] = p.prog, p.xsks, p.pair
		out[fileCounters+n], out[fileSeq+n] = p.counters, p.seq
		if l, ok := p.link.(named); ok {
			out[fileLink+n] = l
		}
	}
	return out
}

// Export describes the steering and returns duplicates of all its descriptors,
// by name, for another process to keep or to adopt. As long as somebody has them,
// what is attached stays when this process ends. They are the caller's to close.
// See [Steering.Generation] for when to export again.
func (s *Steering) Export() (Description, map[string]*os.File, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return Description{}, nil, ErrClosed
	}
	d := Description{
		Version: DescriptionVersion, Config: s.config, Rows: s.config.rows(), PinBuckets: int(s.owners.pins.MaxEntries()),
		Shape: s.table.shape, CPUs: s.cpus, Pinned: s.owners.pinMem != nil,
	}
	d.Config.Table, d.Config.Ports, d.Config.Chains, d.Config.PathChain = nil, nil, nil, nil
	for i, p := range s.ports {
		if p != nil {
			d.Ports = append(d.Ports, PortDescription{Index: i, Config: p.config, Attached: p.link != nil, Mode: p.mode, PairedTo: p.pairedTo})
		}
	}
	files, err := duplicate(s.files())
	return d, files, err
}

// Generation grows when an earlier export has become stale: ports, links or
// programs are others.
func (s *Steering) Generation() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.generation
}

// duplicate duplicates descriptors.
func duplicate(list map[string]named) (_ map[string]*os.File, err error) {
	out := map[string]*os.File{}
	defer func() {
		if err != nil {
			closeFiles(out)
		}
	}()
	for _, name := range slices.Sorted(maps.Keys(list)) {
		fd, err := unix.FcntlInt(uintptr(list[name].FD()), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return nil, fmt.Errorf("duplicate descriptor of %s: %w", name, err)
		}
		out[name] = os.NewFile(uintptr(fd), "bpf-"+name)
	}
	return out, nil
}

// closeFiles closes files that nobody uses.
func closeFiles(files map[string]*os.File) {
	for _, f := range files {
		_ = f.Close() // nothing was written
	}
}
