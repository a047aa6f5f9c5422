package lab

import (
	"context"
	"errors"
	"time"

	"sfc/testbed/capture"
	"sfc/testbed/trafgen"
)

// CaptureOptions say what to capture. Host and Out are required.
type CaptureOptions struct {
	// Host is whose link is watched, at the host's end. The client's is the
	// link of port in, the server's that of port out.
	Host Host
	// Out is the pcapng file that is written.
	Out string
	// Packets ends the capture after so many; 0: when ctx ends.
	Packets int
	// Started is called when nothing is missed any more.
	Started func()
	// Progress is called now and then with the packets so far.
	Progress func(done, total int)
}

// captureTurn is how long the capture sleeps before it looks at its context.
const captureTurn = 50 * time.Millisecond

// Capture writes the frames that cross a link, in both directions, to a file
// until ctx ends or there are enough. It runs in this process: the lab pays
// nothing when nobody looks. missed are those that came too fast.
func (c *Client) Capture(ctx context.Context, opts CaptureOptions) (packets, missed uint64, err error) {
	tap, err := c.openTap(ctx, opts.Host)
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, tap.Close()) }()
	out, err := capture.Create(opts.Out)
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	if opts.Started != nil {
		opts.Started()
	}
	for opts.Packets == 0 || packets < uint64(opts.Packets) {
		f, ok, err := tap.Next(captureTurn)
		if err != nil {
			return packets, missed, err
		}
		if !ok {
			if ctx.Err() != nil {
				break
			}
			continue
		}
		if err := out.Write(f.TimeNs, f.Data, f.Len, ""); err != nil {
			return packets, missed, err
		}
		if packets++; opts.Progress != nil {
			opts.Progress(int(packets), opts.Packets)
		}
		if packets%64 == 0 && ctx.Err() != nil {
			break
		}
	}
	missed, err = tap.Dropped()
	return packets, missed, err
}

// openTap opens a tap on a host's link.
func (c *Client) openTap(ctx context.Context, host Host) (tap *trafgen.Tap, err error) {
	err = c.within(ctx, host, func() error {
		tap, err = trafgen.OpenTap(hostLink)
		return err
	})
	return tap, err
}
