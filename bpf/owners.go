package bpf

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"sfc/dataplane/classify"
	"sfc/dataplane/steer"
)

// Sizes of the memory of pins, in bytes.
const (
	// DefaultPinBytes is enough for 100,000 pins.
	DefaultPinBytes = 8 << 20
	pinBucketBytes  = 128 // struct sfc_pins in steer_meta.h
	pinReach        = 11  // PIN_REACH - 1
	minPinBytes     = (pinReach + 1) * pinBucketBytes
	maxPinBytes     = 1 << 20 * pinBucketBytes
)

// Bits of what a rule gives a frame: CLAIM_* in steer_consts.h.
const (
	claimChain = 16
	claimPins  = 1 << 30
)

// withDefaults replaces zero values.
func (c *Config) withDefaults() {
	if c.Workers == 0 {
		c.Workers = 1
	}
	if len(c.Chains) == 0 {
		c.Chains = make([]ChainConfig, 1)
	}
	if c.PinBytes == 0 {
		c.PinBytes = DefaultPinBytes
	}
}

// validateOwners is validate for workers, chains and pins.
func (c *Config) validateOwners() error {
	if c.Workers < 0 || c.Workers > steer.MaxWorkers {
		return fmt.Errorf("%w: %d workers, want 1 to %d", ErrConfig, c.Workers, steer.MaxWorkers)
	}
	if n := len(c.Chains); n > MaxChains {
		return fmt.Errorf("%w: %d chains, at most %d are possible", ErrConfig, n, MaxChains)
	}
	if n := c.MaxChains; n < 0 || n > MaxChains || n != 0 && (!c.Dynamic || n < len(c.Chains)) {
		return fmt.Errorf("%w: room for %d chains, there are %d: want up to %d, and Dynamic", ErrConfig, n, len(c.Chains), MaxChains)
	}
	if n := c.PinBytes; n != 0 && (n < minPinBytes || n > maxPinBytes || n%pinBucketBytes != 0) {
		return fmt.Errorf("%w: %d bytes for pins: choose a multiple of %d from %d to %d", ErrConfig, n, pinBucketBytes, minPinBytes, maxPinBytes)
	}
	return nil
}

// pinHomes is how many of so many buckets keys may have as their home; 0 without
// a table.
func pinHomes(buckets uint32) uint32 { return max(buckets, pinReach) - pinReach }

// pinned reports whether any chain has pins, or may have.
func (c *Config) pinned() bool {
	for _, chain := range c.Chains {
		if chain.Pins {
			return true
		}
	}
	return c.Dynamic
}

// rows is how many chains there may be.
func (c *Config) rows() int { return max(len(c.Chains), c.MaxChains, 1) }

// rules are those to begin with.
func (c *Config) rules() Rules {
	r := Rules{Table: c.Table, PathChain: c.PathChain}
	for _, chain := range c.Chains {
		r.Pins = append(r.Pins, chain.Pins)
	}
	return r
}

// withDefaults replaces the zero value.
func (r Rules) withDefaults() Rules {
	if r.Table == nil {
		r.Table = &classify.Table{}
	}
	return r
}

// validate returns what is wrong with the rules, which may come from another
// process, for so many chains.
func (r *Rules) validate(chains int, pinned bool) error {
	if err := checkTable(r.Table); err != nil {
		return err
	}
	for path, chain := range r.PathChain {
		if int(chain) >= chains {
			return fmt.Errorf("%w: path %d belongs to chain %d: there are %d from 0 on", ErrConfig, path, chain, chains)
		}
	}
	for chain, pins := range r.Pins {
		if pins && (!pinned || chain >= chains) {
			return fmt.Errorf("%w: chain %d has pins, and there are %d chains, with memory for pins: %v", ErrConfig, chain, chains, pinned)
		}
	}
	return nil
}

// claim returns what a rule of a path gives a frame.
func (r *Rules) claim(path uint16) uint32 {
	var chain uint16
	if int(path) < len(r.PathChain) {
		chain = r.PathChain[path]
	}
	v := uint32(path) | uint32(chain)<<claimChain
	if int(chain) < len(r.Pins) && r.Pins[chain] {
		v |= claimPins
	}
	return v
}

// ownership is the memory that says who owns which flows. It belongs to all
// ports and outlives their programs.
type ownership struct {
	owners, pins *ebpf.Map
	ownerMem     []byte
	pinMem       []byte // nil: no chain has pins
}

// newOwnership creates and maps the memory. Everything belongs to worker 0
// until somebody says otherwise.
func newOwnership(c *Config) (_ *ownership, err error) {
	var specs steerSpecs
	if err := readSpecs(&specs); err != nil {
		return nil, err
	}
	o := &ownership{}
	defer func() {
		if err != nil {
			err = errors.Join(err, o.close())
		}
	}()
	specs.Owners.MaxEntries = uint32(c.rows() + 1)
	if o.owners, err = newMap(specs.Owners); err != nil {
		return nil, err
	}
	if c.pinned() {
		specs.Pins.MaxEntries = uint32(c.PinBytes / pinBucketBytes)
	}
	if o.pins, err = newMap(specs.Pins); err != nil {
		return nil, err
	}
	return o, o.mapAll(c.pinned())
}

// mapAll maps the memory.
func (o *ownership) mapAll(pinned bool) (err error) {
	o.ownerMem, err = mapMemory(fileOwners, o.owners.FD(), steer.OwnersSize(int(o.owners.MaxEntries())-1), unix.PROT_READ|unix.PROT_WRITE)
	if err == nil && pinned {
		o.pinMem, err = mapMemory(filePins, o.pins.FD(), int(o.pins.MaxEntries())*pinBucketBytes, unix.PROT_READ|unix.PROT_WRITE)
	}
	return err
}

// close unmaps and releases the memory. A nil ownership has none.
func (o *ownership) close() (err error) {
	if o == nil {
		return nil
	}
	for _, mem := range [][]byte{o.ownerMem, o.pinMem} {
		if mem != nil {
			err = errors.Join(err, unix.Munmap(mem))
		}
	}
	o.ownerMem, o.pinMem = nil, nil
	return errors.Join(err, o.owners.Close(), o.pins.Close())
}

// OwnerMemory returns the memory for steer.NewOwners, with a row for each chain
// that there may be (one if the configuration has none). The programs of all ports read and count
// in it, before and after Update; until NewOwners worker 0 owns everything. It
// is the Steering's, until Close.
func (s *Steering) OwnerMemory() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.owners.ownerMem
}

// PinMemory returns the memory for steer.NewPins, empty at first; nil when no
// chain has pins, nor may have. The programs of all ports read it, before and after Update. It
// is the Steering's, until Close.
func (s *Steering) PinMemory() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.owners.pinMem
}
