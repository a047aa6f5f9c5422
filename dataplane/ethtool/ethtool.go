// Package ethtool reads and changes an interface's offloads, and reads its
// driver's counters: what ethtool -k, -K and -S do, by the same ioctl.
//
// It exists because the Go library of that name hands the kernel addresses of
// stack variables as integers: when the stack moves in between, the kernel
// writes into memory that is somebody else's by then.
package ethtool

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// String sets of linux/ethtool.h, and bounds.
const (
	setStats    = 1 // ETH_SS_STATS
	setFeatures = 4 // ETH_SS_FEATURES

	nameSize = 32 // ETH_GSTRING_LEN
	maxNames = 1 << 14
)

var native = binary.NativeEndian

// Conn is a socket to ask the kernel through. It sees the interfaces of the
// network namespace of the thread that opened it, from any thread.
type Conn struct{ fd int }

// Open opens a socket in the calling thread's network namespace.
func Open() (*Conn, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open socket for ethtool: %w", err)
	}
	return &Conn{fd: fd}, nil
}

// Close closes the socket.
func (c *Conn) Close() error { return unix.Close(c.fd) }

// Feature is one offload of an interface.
type Feature struct {
	// On says that it is in force.
	On bool
	// Fixed says that the driver does not let it be changed.
	Fixed bool
}

// Features returns the offloads of an interface by name, as ethtool -k spells
// the individual ones ("rx-gro", "tx-checksum-ip-generic").
func (c *Conn) Features(link string) (map[string]Feature, error) {
	names, err := c.names(link, setFeatures)
	if err != nil {
		return nil, fmt.Errorf("read offloads of %s: %w", link, err)
	}
	// struct ethtool_gfeatures: blocks of available, requested, active and
	// never_changed, 32 features each.
	blocks := (len(names) + 31) / 32
	buf := make([]byte, 8+16*blocks)
	native.PutUint32(buf, unix.ETHTOOL_GFEATURES)
	native.PutUint32(buf[4:], uint32(blocks))
	if err := c.ioctl(link, buf); err != nil {
		return nil, fmt.Errorf("read offloads of %s: %w", link, err)
	}
	features := make(map[string]Feature, len(names))
	for i, name := range names {
		if name == "" {
			continue
		}
		block, bit := buf[8+i/32*16:], uint32(1)<<(i%32)
		features[name] = Feature{
			On:    native.Uint32(block[8:])&bit != 0,
			Fixed: native.Uint32(block)&bit == 0 || native.Uint32(block[12:])&bit != 0,
		}
	}
	return features, nil
}

// SetFeatures turns offloads on (true) or off. A name that the kernel does not
// know is an error; one that the driver keeps as it is stays so.
func (c *Conn) SetFeatures(link string, change map[string]bool) error {
	if len(change) == 0 {
		return nil
	}
	names, err := c.names(link, setFeatures)
	if err != nil {
		return fmt.Errorf("change offloads of %s: %w", link, err)
	}
	index := make(map[string]int, len(names))
	for i, name := range names {
		index[name] = i
	}
	// struct ethtool_sfeatures: blocks of valid and requested.
	blocks := (len(names) + 31) / 32
	buf := make([]byte, 8+8*blocks)
	native.PutUint32(buf, unix.ETHTOOL_SFEATURES)
	native.PutUint32(buf[4:], uint32(blocks))
	for name, on := range change {
		i, ok := index[name]
		if !ok || name == "" {
			return fmt.Errorf("change offloads of %s: no offload is named %q", link, name)
		}
		block, bit := buf[8+i/32*8:], uint32(1)<<(i%32)
		native.PutUint32(block, native.Uint32(block)|bit)
		if on {
			native.PutUint32(block[4:], native.Uint32(block[4:])|bit)
		}
	}
	if err := c.ioctl(link, buf); err != nil {
		if errors.Is(err, unix.EPERM) {
			err = fmt.Errorf("%w: needs CAP_NET_ADMIN (run as root)", err)
		}
		return fmt.Errorf("change offloads of %s: %w", link, err)
	}
	return nil
}

// Stats returns the driver's counters of an interface, none when it has none.
func (c *Conn) Stats(link string) (map[string]uint64, error) {
	names, err := c.names(link, setStats)
	if errors.Is(err, unix.EOPNOTSUPP) || err == nil && len(names) == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read counters of %s: %w", link, err)
	}
	buf := make([]byte, 8+8*len(names)) // struct ethtool_stats
	native.PutUint32(buf, unix.ETHTOOL_GSTATS)
	native.PutUint32(buf[4:], uint32(len(names)))
	if err := c.ioctl(link, buf); err != nil {
		return nil, fmt.Errorf("read counters of %s: %w", link, err)
	}
	stats := make(map[string]uint64, len(names))
	for i, name := range names {
		stats[name] = native.Uint64(buf[8+8*i:])
	}
	return stats, nil
}

// names returns one of the kernel's sets of names, in order.
func (c *Conn) names(link string, set uint32) ([]string, error) {
	// struct ethtool_sset_info: the answer is the length of the set.
	buf := make([]byte, 16+4)
	native.PutUint32(buf, unix.ETHTOOL_GSSET_INFO)
	native.PutUint64(buf[8:], 1<<set)
	if err := c.ioctl(link, buf); err != nil {
		return nil, err
	}
	if native.Uint64(buf[8:]) == 0 {
		return nil, nil // the driver has no such set
	}
	n := native.Uint32(buf[16:])
	if n > maxNames {
		return nil, fmt.Errorf("set %d has %d names, want at most %d", set, n, maxNames)
	}
	buf = make([]byte, 12+nameSize*int(n)) // struct ethtool_gstrings
	native.PutUint32(buf, unix.ETHTOOL_GSTRINGS)
	native.PutUint32(buf[4:], set)
	native.PutUint32(buf[8:], n)
	if err := c.ioctl(link, buf); err != nil {
		return nil, err
	}
	names := make([]string, n)
	for i := range names {
		names[i] = unix.ByteSliceToString(buf[12+nameSize*i:][:nameSize])
	}
	return names, nil
}
