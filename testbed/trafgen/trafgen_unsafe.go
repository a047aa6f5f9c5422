package trafgen

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// sendBatch is the argument of sendmmsg, kept so that a call allocates nothing.
type sendBatch struct {
	hdrs [burst]mmsghdr
	iovs [burst]unix.Iovec
}

// mmsghdr is struct mmsghdr of recvmmsg(2).
type mmsghdr struct {
	hdr unix.Msghdr
	n   uint32 // bytes moved
	_   [4]byte
}

// send sends at most burst frames and returns how many went.
func (b *sendBatch) send(fd int, frames [][]byte) (int, unix.Errno) {
	for i, f := range frames {
		b.iovs[i].Base = unsafe.SliceData(f)
		b.iovs[i].SetLen(len(f))
		b.hdrs[i].hdr.Iov = &b.iovs[i]
		b.hdrs[i].hdr.SetIovlen(1)
	}
	n, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&b.hdrs[0])),
		uintptr(len(frames)), unix.MSG_DONTWAIT, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}

// auxSize is the room for one control message with struct tpacket_auxdata.
const auxSize = unix.SizeofCmsghdr + (int(unsafe.Sizeof(unix.TpacketAuxdata{}))+7)&^7

// recvBatch is the argument of recvmmsg and the frames it fills.
type recvBatch struct {
	hdrs [burst]mmsghdr
	iovs [burst]unix.Iovec
	aux  [burst][auxSize]byte
	mem  []byte // burst times tagSize + maxFrame
}

const bufSize = tagSize + maxFrame

func (b *recvBatch) init() {
	b.mem = make([]byte, burst*bufSize)
	for i := range b.hdrs {
		b.iovs[i].Base = &b.mem[i*bufSize+tagSize]
		b.iovs[i].SetLen(maxFrame)
		b.hdrs[i].hdr.Iov = &b.iovs[i]
		b.hdrs[i].hdr.SetIovlen(1)
		b.hdrs[i].hdr.Control = &b.aux[i][0]
	}
}

// recv receives at most burst frames and returns how many came.
func (b *recvBatch) recv(fd int) (int, unix.Errno) {
	for i := range b.hdrs {
		b.hdrs[i].hdr.SetControllen(auxSize)
	}
	n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&b.hdrs[0])),
		burst, unix.MSG_DONTWAIT, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}

// frame returns frame i as it was on the link, its outer VLAN tag put back,
// and whether all of it is there.
func (b *recvBatch) frame(i int) (frame []byte, whole bool) {
	buf := b.mem[i*bufSize : i*bufSize+tagSize+int(b.hdrs[i].n)]
	whole = b.hdrs[i].hdr.Flags&unix.MSG_TRUNC == 0
	if aux, ok := b.auxdata(i); ok && aux.Status&unix.TP_STATUS_VLAN_VALID != 0 && len(buf) >= tagSize+2*macSize {
		tpid := uint16(unix.ETH_P_8021Q)
		if aux.Status&unix.TP_STATUS_VLAN_TPID_VALID != 0 {
			tpid = aux.Vlan_tpid
		}
		return insertTag(buf, tpid, aux.Vlan_tci), whole
	}
	return buf[tagSize:len(buf):len(buf)], whole
}

// auxdata returns what the kernel says about frame i beside its bytes.
func (b *recvBatch) auxdata(i int) (unix.TpacketAuxdata, bool) {
	if b.hdrs[i].hdr.Controllen < uint64(auxSize) {
		return unix.TpacketAuxdata{}, false
	}
	h := (*unix.Cmsghdr)(unsafe.Pointer(&b.aux[i][0]))
	if h.Level != unix.SOL_PACKET || h.Type != unix.PACKET_AUXDATA {
		return unix.TpacketAuxdata{}, false
	}
	return *(*unix.TpacketAuxdata)(unsafe.Pointer(&b.aux[i][unix.SizeofCmsghdr])), true
}
