package ethtool_test

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"sfc/dataplane/ethtool"
)

func TestDriverAndChannels(t *testing.T) {
	inside(t, func(c *ethtool.Conn) error {
		d, err := c.Driver("left")
		if err != nil {
			return err
		}
		if d.Name != "veth" || d.Bus != "" {
			t.Errorf("driver %+v, want veth, on no bus", d)
		}
		ch, err := c.Channels("left")
		if err != nil {
			return err
		}
		if ch.Receive() != 1 || ch.MaxRX < 1 {
			t.Errorf("queues %+v, want one that receives", ch)
		}
		if _, err := c.Driver("absent"); !errors.Is(err, unix.ENODEV) {
			t.Errorf("driver of an absent interface: %v", err)
		}
		if _, err := c.Channels("absent"); !errors.Is(err, unix.ENODEV) {
			t.Errorf("queues of an absent interface: %v", err)
		}
		return nil
	})
}
