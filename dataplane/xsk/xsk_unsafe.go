package xsk

import (
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ringMem is one mapped ring: the words that both sides share, and the
// descriptors behind them.
type ringMem[T desc] struct {
	descs                     []T
	producer, consumer, flags *atomic.Uint32
}

// viewRing lays a ring of size descriptors over mem, a mapping that starts on
// a page. The view lives as long as mem is mapped.
func viewRing[T desc](mem []byte, off unix.XDPRingOffset, size uint32) ringMem[T] {
	_ = mem[ringBytes[T](off, size)-1] // the one bounds check of all casts below
	return ringMem[T]{
		descs:    unsafe.Slice((*T)(unsafe.Pointer(&mem[off.Desc])), size),
		producer: (*atomic.Uint32)(unsafe.Pointer(&mem[off.Producer])),
		consumer: (*atomic.Uint32)(unsafe.Pointer(&mem[off.Consumer])),
		flags:    (*atomic.Uint32)(unsafe.Pointer(&mem[off.Flags])),
	}
}

// ringBytes returns the length of a ring's mapping.
func ringBytes[T desc](off unix.XDPRingOffset, size uint32) int {
	var d T
	return int(off.Desc) + int(size)*int(unsafe.Sizeof(d))
}

func newConsRing[T desc](m ringMem[T]) consRing[T] {
	return consRing[T]{
		descs: m.descs, mask: uint32(len(m.descs) - 1),
		producer: m.producer, consumer: m.consumer,
		cachedProd: m.producer.Load(), cachedCons: m.consumer.Load(),
	}
}

func newProdRing[T desc](m ringMem[T]) prodRing[T] {
	return prodRing[T]{
		descs: m.descs, mask: uint32(len(m.descs) - 1),
		producer: m.producer, consumer: m.consumer, flags: m.flags,
		cachedProd: m.producer.Load(), cachedCons: m.consumer.Load(),
	}
}

// registerUMEM registers mem with the socket; the kernel pins its pages until
// the last socket that uses it is gone.
func registerUMEM(fd int, mem []byte, chunkSize uint32) error {
	reg := unix.XDPUmemReg{
		Addr: uint64(uintptr(unsafe.Pointer(&mem[0]))),
		Len:  uint64(len(mem)),
		Size: chunkSize,
	}
	_, _, errno := unix.Syscall6(unix.SYS_SETSOCKOPT, uintptr(fd), unix.SOL_XDP, unix.XDP_UMEM_REG,
		uintptr(unsafe.Pointer(&reg)), unsafe.Sizeof(reg), 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// getsockopt reads an option of SOL_XDP into v. A kernel that knows fewer
// fields leaves the others as they are.
func getsockopt[T unix.XDPMmapOffsets | unix.XDPStatistics | uint32](fd, opt int, v *T) error {
	size := uint32(unsafe.Sizeof(*v))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_XDP, uintptr(opt),
		uintptr(unsafe.Pointer(v)), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// viewRecord lays a record over mem, which starts on a page and has
// RecordSize(chunks) bytes.
func viewRecord(mem []byte, chunks int) record {
	_ = mem[RecordSize(chunks)-1] // the one bounds check of all casts below
	return record{
		mem:   mem,
		head:  (*recordHead)(unsafe.Pointer(&mem[0])),
		gone:  unsafe.Slice((*goneCounts)(unsafe.Pointer(&mem[recordBytes])), maxQueues),
		where: unsafe.Slice((*uint16)(unsafe.Pointer(&mem[recordBytes+maxQueues*goneBytes])), chunks),
	}
}

// pageAligned says whether mem starts on a page.
func pageAligned(mem []byte) bool {
	return uintptr(unsafe.Pointer(&mem[0]))%uintptr(unix.Getpagesize()) == 0
}
