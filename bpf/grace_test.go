package bpf

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"
)

// slowProgram is an XDP program that takes milliseconds: it writes 1 into the
// first word of its memory, reads the clock many times, and writes 1 into the
// second.
func slowProgram(t *testing.T) (*ebpf.Program, []byte) {
	t.Helper()
	m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 16, MaxEntries: 1, Flags: unix.BPF_F_MMAPABLE})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	mem, err := mapMemory("words", m.FD(), 16, unix.PROT_READ|unix.PROT_WRITE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Munmap(mem) })
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.XDP, License: "GPL", Instructions: asm.Instructions{
		asm.LoadMapValue(asm.R6, m.FD(), 0),
		asm.StoreImm(asm.R6, 0, 1, asm.Word),
		asm.Mov.Imm(asm.R7, 100_000),
		asm.FnKtimeGetNs.Call().WithSymbol("loop"),
		asm.Sub.Imm(asm.R7, 1),
		asm.JNE.Imm(asm.R7, 0, "loop"),
		asm.StoreImm(asm.R6, 8, 1, asm.Word),
		asm.Mov.Imm(asm.R0, xdpDrop),
		asm.Return(),
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p, mem
}

// Grace comes back when a program that was running has ended, not before.
func TestGraceWaitsForRunningPrograms(t *testing.T) {
	needKernel(t)
	s := onePort(t, nil)
	p, mem := slowProgram(t)
	for range 10 {
		begun, ended := flagAt(mem, 0), flagAt(mem, 8)
		atomic.StoreUint32(begun, 0)
		atomic.StoreUint32(ended, 0)
		result := make(chan error, 1)
		start := time.Now()
		go func() {
			_, err := p.Run(&ebpf.RunOptions{Data: dns4})
			result <- err
		}()
		for atomic.LoadUint32(begun) == 0 && time.Since(start) < 10*time.Second {
		}
		early := atomic.LoadUint32(ended) == 0
		if err := s.Grace(); err != nil {
			t.Fatal(err)
		}
		if atomic.LoadUint32(ended) == 0 {
			t.Error("a program is still running after Grace")
		}
		if err := <-result; err != nil {
			t.Fatal(err)
		}
		t.Logf("the program was seen running: %v; Grace was back %v after it was started", early, time.Since(start))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Grace(); !errors.Is(err, ErrClosed) {
		t.Errorf("after close: %v", err)
	}
}
