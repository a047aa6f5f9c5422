package bpf

import (
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Commands of bpf(2): enum bpf_cmd in linux/bpf.h.
const (
	cmdMapUpdateElem  = 2
	cmdMapUpdateBatch = 26
)

// updateElem is union bpf_attr for BPF_MAP_UPDATE_ELEM.
type updateElem struct {
	fd         uint32
	_          uint32
	key, value unsafe.Pointer
	flags      uint64
}

// updateBatch is union bpf_attr for BPF_MAP_UPDATE_BATCH.
type updateBatch struct {
	inBatch, outBatch uint64
	keys, values      unsafe.Pointer
	count, fd         uint32
	elemFlags, flags  uint64
}

// putWord writes a value of 4 bytes into a map with keys of 4 bytes. It needs the
// descriptor and no capability, other than making an ebpf.Map of it does on some
// kernels.
func putWord(fd int, key, value uint32) error {
	attr := updateElem{fd: uint32(fd), key: unsafe.Pointer(&key), value: unsafe.Pointer(&value)}
	_, _, errno := unix.Syscall(unix.SYS_BPF, cmdMapUpdateElem, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr))
	runtime.KeepAlive(&key)
	runtime.KeepAlive(&value)
	if errno != 0 {
		return errno
	}
	return nil
}

// putBatch writes len(keys) elements into a map with keys of 4 bytes; values are
// one behind the other.
func putBatch(fd int, keys []uint32, values []byte) error {
	attr := updateBatch{keys: unsafe.Pointer(&keys[0]), values: unsafe.Pointer(&values[0]), count: uint32(len(keys)), fd: uint32(fd)}
	_, _, errno := unix.Syscall(unix.SYS_BPF, cmdMapUpdateBatch, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr))
	runtime.KeepAlive(keys)
	runtime.KeepAlive(values)
	if errno != 0 {
		return errno
	}
	return nil
}
