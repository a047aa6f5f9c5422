package server

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// maxGroups is how many supplementary groups of a peer are looked at. Linux
// allows 65,536; whoever has more than this is in some directory's hands, and
// the error says so.
const maxGroups = 4096

// peerGroups returns the supplementary groups that the process at the other end
// of a unix socket had when it connected (SO_PEERGROUPS, Linux 4.13).
func peerGroups(fd int) ([]uint32, error) {
	groups := make([]uint32, maxGroups)
	size := uint32(len(groups)) * uint32(unsafe.Sizeof(groups[0]))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_PEERGROUPS,
		uintptr(unsafe.Pointer(&groups[0])), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return nil, fmt.Errorf("groups of the peer: %w", errno)
	}
	return groups[:size/uint32(unsafe.Sizeof(groups[0]))], nil
}
