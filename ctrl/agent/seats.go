package agent

// seat is where a chain stands in a data plane as long as it lives: in the
// tables of owners and in the workers.
type seat struct {
	Chain uint16
	// Paths are the way forward and the way back. The second means nothing
	// where there is none.
	Paths [2]uint16
}

// seats deals indices out. The lowest free ones go first, so that what is
// walked in order stays short.
type seats struct {
	chains, paths []bool // taken
}

func newSeats(chains, paths int) *seats {
	return &seats{make([]bool, chains), make([]bool, paths)}
}

// take returns a free place for a chain of so many paths; false when there is
// none.
func (p *seats) take(paths int) (at seat, ok bool) {
	chain := firstFree(p.chains, 0)
	if chain < 0 {
		return at, false
	}
	next := 0
	for i := range paths {
		k := firstFree(p.paths, next)
		if k < 0 {
			return at, false
		}
		at.Paths[i] = uint16(k)
		next = k + 1
	}
	at.Chain = uint16(chain)
	p.set(at, paths, true)
	return at, true
}

// claim takes a place that was dealt out by an earlier process; false when it
// is not free, or not there.
func (p *seats) claim(at seat, paths int) bool {
	if int(at.Chain) >= len(p.chains) || p.chains[at.Chain] {
		return false
	}
	for _, k := range at.Paths[:paths] {
		if int(k) >= len(p.paths) || p.paths[k] {
			return false
		}
	}
	if paths == 2 && at.Paths[0] == at.Paths[1] {
		return false
	}
	p.set(at, paths, true)
	return true
}

// free is how many chains find a place at least.
func (p *seats) free() int {
	chains, paths := 0, 0
	for _, taken := range p.chains {
		if !taken {
			chains++
		}
	}
	for _, taken := range p.paths {
		if !taken {
			paths++
		}
	}
	return min(chains, paths/2)
}

// giveBack gives a place back.
func (p *seats) giveBack(at seat, paths int) { p.set(at, paths, false) }

func (p *seats) set(at seat, paths int, taken bool) {
	p.chains[at.Chain] = taken
	for _, k := range at.Paths[:paths] {
		p.paths[k] = taken
	}
}

func firstFree(taken []bool, from int) int {
	for i := from; i < len(taken); i++ {
		if !taken[i] {
			return i
		}
	}
	return -1
}
