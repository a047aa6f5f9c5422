package bpf

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"

	"sfc/dataplane/packet"
)

// tableMaps are the maps of one classifier's table, shared by the programs of
// all ports. The programs hold them too, so they may be closed once those are
// loaded.
type tableMaps struct {
	layout          *layout
	tables, vectors *ebpf.Map
}

// newTableMaps creates and fills the maps.
func newTableMaps(l *layout) (_ *tableMaps, err error) {
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
	spec := specs.Tables
	spec.ValueSize = uint32(len(l.tables))
	spec.Contents = []ebpf.MapKV{{Key: uint32(0), Value: l.tables}}
	if m.tables, err = newMap(spec); err != nil {
		return nil, err
	}
	spec = specs.Vectors
	spec.ValueSize = uint32(l.vectorBytes)
	spec.MaxEntries = uint32(len(l.vectors) / l.vectorBytes)
	for i := range spec.MaxEntries {
		at := int(i) * l.vectorBytes
		spec.Contents = append(spec.Contents, ebpf.MapKV{Key: i, Value: l.vectors[at : at+l.vectorBytes]})
	}
	if m.vectors, err = newMap(spec); err != nil {
		return nil, err
	}
	return m, nil
}

func (m *tableMaps) close() error { return errors.Join(m.tables.Close(), m.vectors.Close()) }

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

// loadProgram loads the steering program of port i with a table.
func (s *Steering) loadProgram(i int, t *tableMaps) (*ebpf.Program, error) {
	spec, err := loadSteer()
	if err != nil {
		return nil, fmt.Errorf("read the steering object: %w", err)
	}
	var specs steerSpecs
	if err := spec.Assign(&specs); err != nil {
		return nil, fmt.Errorf("read the steering object: %w", err)
	}
	if err := s.setConstants(&specs.steerVariableSpecs, i, t.layout); err != nil {
		return nil, err
	}
	p := s.ports[i]
	shared := map[string]*ebpf.Map{
		steerMapXsks: p.xsks, steerMapPair: p.pair, steerMapCounters: p.counters, steerMapSeq: p.seq,
		steerMapTables: t.tables, steerMapVectors: t.vectors,
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
func (s *Steering) setConstants(v *steerVariableSpecs, i int, l *layout) error {
	ingress := none
	if l.ingress != nil {
		ingress = uint32(l.ingress[i])
	}
	var pins uint8
	if s.config.pinned() {
		pins = 1
	}
	return errors.Join(
		v.CfgPort.Set(uint16(i)),
		v.CfgUnmatched.Set(uint8(s.ports[i].config.Unmatched)),
		v.CfgMaxFrame.Set(uint32(packet.MaxFrame)),
		v.CfgKey0.Set(s.config.HashKey[0]),
		v.CfgKey1.Set(s.config.HashKey[1]),
		v.CfgWorkers.Set(uint32(s.config.Workers)),
		v.CfgChains.Set(uint32(len(s.config.Chains))),
		v.CfgPins.Set(pins),
		v.CfgPinHomes.Set(pinHomes(s.owners.pins.MaxEntries())),
		v.TblWords.Set(l.words),
		v.TblClaim.Set(l.claim),
		v.TblSport.Set(l.sport),
		v.TblDport.Set(l.dport),
		v.TblVlan.Set(l.vlan),
		v.TblProto.Set(l.proto),
		v.TblIngress.Set(ingress),
		v.TblSrc4.Set(l.src4), v.TblSrc4Steps.Set(l.src4Steps),
		v.TblDst4.Set(l.dst4), v.TblDst4Steps.Set(l.dst4Steps),
		v.TblSrc6.Set(l.src6), v.TblSrc6Steps.Set(l.src6Steps),
		v.TblDst6.Set(l.dst6), v.TblDst6Steps.Set(l.dst6Steps),
	)
}
