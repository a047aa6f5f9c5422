package ethtool

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ifreq is struct ifreq with a pointer. The pointer is typed as one, so that
// the buffer stays where it is and alive until the kernel is done.
type ifreq struct {
	name [unix.IFNAMSIZ]byte
	data unsafe.Pointer
	_    [16]byte
}

// ioctl passes a command, whose number begins buf, and takes the answer in buf.
func (c *Conn) ioctl(link string, buf []byte) error {
	var req ifreq
	if len(link) == 0 || len(link) >= len(req.name) {
		return fmt.Errorf("interface name %q: want 1 to %d bytes", link, len(req.name)-1)
	}
	copy(req.name[:], link)
	req.data = unsafe.Pointer(&buf[0])
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(c.fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&req)))
	if errno != 0 {
		return errno
	}
	return nil
}
