package ethtool

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Driver says who drives an interface: struct ethtool_drvinfo.
type Driver struct {
	Name, Version, Firmware string
	// Bus is where the device sits, a PCI address such as 0000:00:05.0 for
	// most; empty for virtual ones.
	Bus string
}

// Driver returns who drives an interface.
func (c *Conn) Driver(link string) (Driver, error) {
	const text = 32
	buf := make([]byte, 196)
	native.PutUint32(buf, unix.ETHTOOL_GDRVINFO)
	if err := c.ioctl(link, buf); err != nil {
		return Driver{}, fmt.Errorf("read driver of %s: %w", link, err)
	}
	field := func(i int) string { return unix.ByteSliceToString(buf[4+i*text:][:text]) }
	return Driver{Name: field(0), Version: field(1), Firmware: field(2), Bus: field(3)}, nil
}

// Channels says over how many queues an interface spreads its packets: struct
// ethtool_channels. Combined ones receive and send.
type Channels struct{ RX, TX, Combined, MaxRX, MaxTX, MaxCombined int }

// Receive is the number of queues that receive.
func (c Channels) Receive() int { return c.RX + c.Combined }

// Channels returns an interface's queues. A driver that does not tell has one.
func (c *Conn) Channels(link string) (Channels, error) {
	buf := make([]byte, 4+8*4)
	native.PutUint32(buf, unix.ETHTOOL_GCHANNELS)
	if err := c.ioctl(link, buf); errors.Is(err, unix.EOPNOTSUPP) {
		return Channels{Combined: 1, MaxCombined: 1}, nil
	} else if err != nil {
		return Channels{}, fmt.Errorf("read queues of %s: %w", link, err)
	}
	n := func(i int) int { return int(native.Uint32(buf[4+4*i:])) }
	return Channels{MaxRX: n(0), MaxTX: n(1), MaxCombined: n(3), RX: n(4), TX: n(5), Combined: n(7)}, nil
}
