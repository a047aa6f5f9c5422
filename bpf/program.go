package bpf

import (
	"errors"
	"fmt"
	"sync"

	"github.com/cilium/ebpf"

	"sfc/dataplane/classify"
	"sfc/dataplane/packet"
)

// tableMaps are the maps of a shape: two tables, of which one counts. The
// programs of all ports share them.
type tableMaps struct {
	*layout
	active, tables, vectors *ebpf.Map
	slot                    uint64 // which counts
}

// newTableMaps creates the maps, with a table that fits.
func newTableMaps(l *layout, t *classify.Table, claim func(path uint16) uint32) (_ *tableMaps, err error) {
	var specs steerSpecs
	if err := readSpecs(&specs); err != nil {
		return nil, err
	}
	m := &tableMaps{layout: l}
	defer func() {
		if err != nil {
			err = errors.Join(err, m.close())
		}
	}()
	specs.Tables.ValueSize, specs.Tables.MaxEntries = l.size, 2
	specs.Vectors.ValueSize, specs.Vectors.MaxEntries = uint32(l.vectorBytes()), uint32(2*l.classes())
	for _, made := range []struct {
		to   **ebpf.Map
		spec *ebpf.MapSpec
	}{{&m.active, specs.Active}, {&m.tables, specs.Tables}, {&m.vectors, specs.Vectors}} {
		if *made.to, err = newMap(made.spec); err != nil {
			return nil, err
		}
	}
	return m, m.put(0, t, claim)
}

// put writes a table into a slot that no program looks at.
func (m *tableMaps) put(slot uint64, t *classify.Table, claim func(path uint16) uint32) error {
	tables, vectors := m.fill(t, claim)
	if err := m.tables.Put(uint32(slot), tables); err != nil {
		return fmt.Errorf("write a table of %d rules: %w", t.Rules, err)
	}
	keys := make([]uint32, m.classes())
	for i := range keys {
		keys[i] = uint32(slot)*uint32(m.classes()) + uint32(i)
	}
	if err := putBatch(m.vectors.FD(), keys, vectors); err != nil {
		return fmt.Errorf("write the vectors of %d rules: %w", t.Rules, err)
	}
	return nil
}

// turn makes a slot the one that counts.
func (m *tableMaps) turn(slot uint64) error {
	if err := m.active.Put(uint32(0), slot); err != nil {
		return fmt.Errorf("turn to another table: %w", err)
	}
	m.slot = slot
	return nil
}

// close releases the maps; the programs keep theirs. A nil tableMaps has none.
func (m *tableMaps) close() error {
	if m == nil {
		return nil
	}
	return errors.Join(m.active.Close(), m.tables.Close(), m.vectors.Close())
}

// newMap creates a map; the error names it.
func newMap(spec *ebpf.MapSpec) (*ebpf.Map, error) {
	m, err := ebpf.NewMap(spec)
	if err != nil {
		return nil, explain(fmt.Errorf("create map %s of %d x %d bytes: %w", spec.Name, spec.MaxEntries, spec.ValueSize, err))
	}
	return m, nil
}

// readSpecs reads the embedded object.
func readSpecs(specs *steerSpecs) error {
	spec, err := loadSteer()
	if err != nil {
		return fmt.Errorf("read the steering object: %w", err)
	}
	if err := spec.Assign(specs); err != nil {
		return fmt.Errorf("read the steering object: %w", err)
	}
	return nil
}

// loadPrograms loads the program of every port for the tables, on as many cores
// as there are: the verifier takes its time. The result has nil where s.ports
// has.
func (s *Steering) loadPrograms(t *tableMaps) (_ []*ebpf.Program, err error) {
	progs, errs := make([]*ebpf.Program, len(s.ports)), make([]error, len(s.ports))
	var wg sync.WaitGroup
	for i, p := range s.ports {
		if p != nil {
			wg.Go(func() { progs[i], errs[i] = s.loadProgram(i, p, t) })
		}
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return nil, errors.Join(err, closePrograms(progs))
	}
	return progs, nil
}

// closePrograms closes programs that never ran or run no more.
func closePrograms(progs []*ebpf.Program) (err error) {
	for _, p := range progs {
		err = errors.Join(err, p.Close())
	}
	return err
}

// loadProgram loads the steering program of port i for the tables.
func (s *Steering) loadProgram(i int, p *port, t *tableMaps) (*ebpf.Program, error) {
	spec, err := loadSteer()
	if err != nil {
		return nil, fmt.Errorf("read the steering object: %w", err)
	}
	var specs steerSpecs
	if err := spec.Assign(&specs); err != nil {
		return nil, fmt.Errorf("read the steering object: %w", err)
	}
	if err := s.setConstants(&specs.steerVariableSpecs, i, p, t.layout); err != nil {
		return nil, err
	}
	shared := map[string]*ebpf.Map{
		steerMapXsks: p.xsks, steerMapPair: p.pair, steerMapCounters: p.counters, steerMapSeq: p.seq,
		steerMapActive: t.active, steerMapTables: t.tables, steerMapVectors: t.vectors,
		steerMapOwners: s.owners.owners, steerMapPins: s.owners.pins,
	}
	for name, m := range shared { // a replacement must look like what it replaces
		ms := spec.Maps[name]
		ms.ValueSize, ms.MaxEntries = m.ValueSize(), m.MaxEntries()
	}
	var progs steerPrograms
	if err := spec.LoadAndAssign(&progs, &ebpf.CollectionOptions{MapReplacements: shared}); err != nil {
		return nil, explain(fmt.Errorf("load the steering program of port %d: %w", i, err))
	}
	return progs.Steer, nil
}

// setConstants sets what the program of port i takes for granted.
func (s *Steering) setConstants(v *steerVariableSpecs, i int, p *port, l *layout) error {
	var pins uint8
	if s.owners.pinMem != nil {
		pins = 1
	}
	steps := [4]uint32{}
	for k, n := range l.Steps {
		steps[k] = uint32(max(n, 0))
	}
	return errors.Join(
		v.CfgPort.Set(uint16(i)),
		v.CfgUnmatched.Set(uint8(p.config.Unmatched)),
		v.CfgMaxFrame.Set(uint32(packet.MaxFrame)),
		v.CfgKey0.Set(s.config.HashKey[0]),
		v.CfgKey1.Set(s.config.HashKey[1]),
		v.CfgWorkers.Set(uint32(s.config.Workers)),
		v.CfgChains.Set(uint32(s.config.rows())),
		v.CfgPins.Set(pins),
		v.CfgPinHomes.Set(pinHomes(s.owners.pins.MaxEntries())),
		v.TblWords.Set(l.Words),
		v.TblClasses.Set(uint32(l.classes())),
		v.TblClaim.Set(l.claim),
		v.TblSport.Set(l.sport),
		v.TblDport.Set(l.dport),
		v.TblVlan.Set(l.vlan),
		v.TblProto.Set(l.proto),
		v.TblIngress.Set(l.ingress),
		v.TblSrc4.Set(l.src4), v.TblSrc4Steps.Set(steps[0]),
		v.TblDst4.Set(l.dst4), v.TblDst4Steps.Set(steps[1]),
		v.TblSrc6.Set(l.src6), v.TblSrc6Steps.Set(steps[2]),
		v.TblDst6.Set(l.dst6), v.TblDst6Steps.Set(steps[3]),
	)
}
