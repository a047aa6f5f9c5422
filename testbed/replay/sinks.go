package replay

import (
	"errors"
	"fmt"

	"sfc/testbed/capture"
)

// sinks are the captures that a replay writes; nil ones are not asked for.
type sinks struct {
	out, drops *capture.Writer
}

func openSinks(opts Options) (s sinks, err error) {
	if opts.Out != "" {
		if s.out, err = capture.Create(opts.Out); err != nil {
			return s, fmt.Errorf("--out: %w", err)
		}
	}
	if opts.Drops != "" {
		if s.drops, err = capture.Create(opts.Drops); err != nil {
			return s, errors.Join(fmt.Errorf("--drops: %w", err), s.close())
		}
	}
	return s, nil
}

func (s sinks) write(timeNs int64, data []byte) error {
	if s.out == nil {
		return nil
	}
	return s.out.Write(timeNs, data, len(data), "")
}

func (s sinks) writeDrop(timeNs int64, data []byte, reason string) error {
	if s.drops == nil {
		return nil
	}
	return s.drops.Write(timeNs, data, len(data), "dropped: "+reason)
}

func (s sinks) close() error {
	var errs []error
	if s.out != nil {
		errs = append(errs, s.out.Close())
	}
	if s.drops != nil {
		errs = append(errs, s.drops.Close())
	}
	return errors.Join(errs...)
}
