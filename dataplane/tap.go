package dataplane

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Tap is a TAP device through which packets with verdict Pass reach the
// kernel's network stack: they arrive there as if received on it. It goes when
// it is closed or the process dies. Any worker may call Inject.
type Tap struct {
	name string
	fd   int
	mac  [6]byte // the device's
	own  atomic.Pointer[[][6]byte]
	once sync.Once
	err  error
}

// OpenTap makes a TAP device in the network namespace of the calling thread
// and sets it up. Frames for the hardware addresses of ports, own, are for this
// host: the device takes them for its own too. Needs CAP_NET_ADMIN. See
// Documentation/networking/tuntap.rst.
func OpenTap(name string, own [][6]byte) (_ *Tap, err error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		if errors.Is(err, os.ErrNotExist) {
			err = fmt.Errorf("%w: load the module with modprobe tun", err)
		}
		return nil, fmt.Errorf("open /dev/net/tun: %w", err)
	}
	defer func() {
		if err != nil {
			unix.Close(fd)
		}
	}()
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		return nil, fmt.Errorf("tap %s: %w", name, err)
	}
	ifr.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr); err != nil {
		return nil, fmt.Errorf("tap %s: %w", name, err)
	}
	// Without an address of its own the stack says nothing on it by itself.
	if err := os.WriteFile("/proc/sys/net/ipv6/conf/"+name+"/addr_gen_mode", []byte("1"), 0); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("tap %s: %w", name, err)
	}
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("tap %s: socket: %w", name, err)
	}
	defer unix.Close(s)
	ifr.SetUint16(unix.IFF_UP | unix.IFF_NOARP)
	if err := unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, ifr); err != nil {
		return nil, fmt.Errorf("tap %s: set up: %w", name, err)
	}
	nic, err := net.InterfaceByName(name)
	if err != nil {
		return nil, fmt.Errorf("tap %s: %w", name, err)
	}
	t := AdoptTap(name, fd, [6]byte(nic.HardwareAddr))
	t.SetOwn(own)
	return t, nil
}

// AdoptTap is a device that another process made, with its hardware address. The
// descriptor, which does not block, is the Tap's from now on.
func AdoptTap(name string, fd int, mac [6]byte) *Tap {
	t := &Tap{name: name, fd: fd, mac: mac}
	t.own.Store(new([][6]byte))
	return t
}

// SetOwn changes the hardware addresses of ports. Anyone may call it.
func (t *Tap) SetOwn(own [][6]byte) { t.own.Store(&own) }

// Inject implements [Stack].
func (t *Tap) Inject(frame []byte) bool {
	if len(frame) < len(t.mac) {
		return false
	}
	to := [6]byte(frame)
	for _, own := range *t.own.Load() {
		if own == to {
			// For the stack a frame to another device's address is somebody
			// else's.
			copy(frame, t.mac[:])
			break
		}
	}
	n, err := unix.Write(t.fd, frame)
	copy(frame, to[:])
	return err == nil && n == len(frame)
}

// Export returns a duplicate of the descriptor, the caller's own, and the
// device's hardware address: what [AdoptTap] needs in another process. The
// device goes with the last descriptor.
func (t *Tap) Export() (fd int, mac [6]byte, err error) {
	fd, err = unix.FcntlInt(uintptr(t.fd), unix.F_DUPFD_CLOEXEC, 0)
	return fd, t.mac, err
}

// Close removes the device.
func (t *Tap) Close() error {
	t.once.Do(func() { t.err = unix.Close(t.fd) })
	return t.err
}
