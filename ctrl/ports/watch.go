package ports

import (
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Change is an interface that came, went, or changed.
type Change struct {
	Name        string
	Index       int
	Gone        bool
	Up, Carrier bool
}

// Watch follows the interfaces of the calling thread's network namespace until
// done is closed; first come those that are there. When the kernel's queue ran
// over, what was missed is unknown: lost is called, and the channel closed.
func Watch(done <-chan struct{}, lost func(error)) (<-chan Change, error) {
	updates := make(chan netlink.LinkUpdate, 64)
	failed := func(err error) {
		select {
		case <-done: // the socket was closed under the reader
		default:
			lost(err)
		}
	}
	if err := netlink.LinkSubscribeWithOptions(updates, done, netlink.LinkSubscribeOptions{ListExisting: true, ErrorCallback: failed}); err != nil {
		return nil, fmt.Errorf("watch interfaces: %w", err)
	}
	out := make(chan Change)
	go func() {
		defer close(out)
		for u := range updates {
			a := u.Attrs()
			c := Change{
				Name: a.Name, Index: a.Index, Gone: u.Header.Type == unix.RTM_DELLINK,
				Up: a.RawFlags&unix.IFF_UP != 0, Carrier: a.RawFlags&unix.IFF_LOWER_UP != 0,
			}
			select {
			case out <- c:
			case <-done:
				// The subscription ends too, and closes updates.
			}
		}
	}()
	return out, nil
}
