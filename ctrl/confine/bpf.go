package confine

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// What a filter answers, see seccomp(2).
const (
	retKill  = unix.SECCOMP_RET_KILL_PROCESS
	retErrno = unix.SECCOMP_RET_ERRNO // with the number in the low 16 bits
	retAllow = unix.SECCOMP_RET_ALLOW
)

// Offsets in struct seccomp_data, and the bit of the x32 ABI, which has numbers
// of its own for the same calls.
const (
	offNr   = 0
	offArch = 4
	offArgs = 16
	x32Bit  = 0x40000000
)

// assembler writes a filter: a check of the architecture, then rules in order,
// of which the first that fits answers.
type assembler struct{ prog []unix.SockFilter }

func (a *assembler) emit(code uint16, k uint32, jt, jf uint8) {
	a.prog = append(a.prog, unix.SockFilter{Code: code, K: k, Jt: jt, Jf: jf})
}

func (a *assembler) load(offset uint32) { a.emit(unix.BPF_LD|unix.BPF_W|unix.BPF_ABS, offset, 0, 0) }
func (a *assembler) ret(what uint32)    { a.emit(unix.BPF_RET|unix.BPF_K, what, 0, 0) }

// begin kills calls of another architecture's numbers.
func (a *assembler) begin(arch uint32) {
	a.load(offArch)
	a.emit(unix.BPF_JMP|unix.BPF_JEQ|unix.BPF_K, arch, 1, 0)
	a.ret(retKill)
	a.load(offNr)
	a.emit(unix.BPF_JMP|unix.BPF_JGE|unix.BPF_K, x32Bit, 0, 1)
	a.ret(retKill)
}

// condition is a test of one argument's value under a mask. Arguments have 64
// bits; the mask says which count.
type condition struct {
	arg         int
	mask, value uint64
}

// rule answers the calls nr whose arguments meet all conditions. Others go on
// to the next rule.
func (a *assembler) rule(nr uintptr, what uint32, conditions ...condition) error {
	// Each word that counts takes three instructions, and where it differs the
	// rest of the rule is jumped over.
	type word struct{ offset, mask, value uint32 }
	var words []word
	for _, c := range conditions {
		at := uint32(offArgs + 8*c.arg) // both architectures are little endian
		for i, half := range []uint{0, 32} {
			if m := uint32(c.mask >> half); m != 0 {
				words = append(words, word{at + uint32(4*i), m, uint32(c.value >> half)})
			}
		}
	}
	length := 3*len(words) + 1 // behind the test of nr
	if len(words) > 0 {
		length++ // nr is loaded again
	}
	if length > 255 {
		return fmt.Errorf("rule for system call %d has %d instructions: at most 255", nr, length)
	}
	a.emit(unix.BPF_JMP|unix.BPF_JEQ|unix.BPF_K, uint32(nr), 0, uint8(length))
	for i, w := range words {
		a.load(w.offset)
		a.emit(unix.BPF_ALU|unix.BPF_AND|unix.BPF_K, w.mask, 0, 0)
		a.emit(unix.BPF_JMP|unix.BPF_JEQ|unix.BPF_K, w.value, 0, uint8(3*(len(words)-1-i)+1))
	}
	a.ret(what)
	if len(words) > 0 {
		a.load(offNr) // a word that differed is in its place
	}
	return nil
}
