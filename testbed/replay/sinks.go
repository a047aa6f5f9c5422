package replay

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"sfc/chains"
	"sfc/testbed/capture"
)

// sinks are the captures that a replay writes; nil ones are not asked for.
type sinks struct {
	out, drops *capture.Writer
	byPort     bool // each port has an interface
}

// openSinks creates the files that are asked for. When packets go into both
// ports, the files have an interface for each.
func openSinks(opts Options, twoWay bool) (s sinks, err error) {
	var links []string
	if s.byPort = twoWay; twoWay {
		links = ports
	}
	if opts.Out != "" {
		if s.out, err = capture.Create(opts.Out, links...); err != nil {
			return s, fmt.Errorf("--out: %w", err)
		}
	}
	if opts.Drops != "" {
		if s.drops, err = capture.Create(opts.Drops, links...); err != nil {
			return sinks{}, errors.Join(fmt.Errorf("--drops: %w", err), s.close())
		}
	}
	return s, nil
}

// write writes a packet that came out of a port.
func (s sinks) write(port int, timeNs int64, data []byte) error {
	if s.out == nil {
		return nil
	}
	return s.out.WriteOn(s.link(port), timeNs, data, len(data), "")
}

// writeDrop writes a packet that went into a port.
func (s sinks) writeDrop(port int, timeNs int64, data []byte, reason string) error {
	if s.drops == nil {
		return nil
	}
	return s.drops.WriteOn(s.link(port), timeNs, data, len(data), "dropped: "+reason)
}

// link is the interface that stands for a port.
func (s sinks) link(port int) int {
	if s.byPort {
		return port
	}
	return 0
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

// checkOutputs refuses files to write that would overwrite an input or each
// other, and those whose folder does not exist.
func checkOutputs(opts Options, inputs []string) error {
	for _, o := range []struct{ flag, path, other string }{
		{"--out", opts.Out, opts.Drops}, {"--drops", opts.Drops, ""},
	} {
		if o.path == "" {
			continue
		}
		for _, in := range inputs {
			if sameFile(o.path, in) {
				return fmt.Errorf("%s %s would overwrite the input %s: give it another name", o.flag, o.path, in)
			}
		}
		if o.other != "" && sameFile(o.path, o.other) {
			return fmt.Errorf("%s and --drops are both %s: give each a name of its own", o.flag, o.path)
		}
		if _, err := os.Stat(filepath.Dir(o.path)); err != nil {
			return fmt.Errorf("%s %s: %w: make the folder first", o.flag, o.path, err)
		}
	}
	return nil
}

// sameFile reports whether two paths name one regular file, or would once it
// exists. A device such as /dev/null may be named twice.
func sameFile(a, b string) bool {
	sa, errA := os.Stat(a)
	sb, errB := os.Stat(b)
	if errA == nil && errB == nil {
		return os.SameFile(sa, sb) && sa.Mode().IsRegular()
	}
	a, errA = filepath.Abs(a)
	b, errB = filepath.Abs(b)
	return errA == nil && errB == nil && a == b
}

// modules lists the files that specs name: modules and configurations.
func modules(specs []chains.Spec) (paths []string) {
	for _, s := range specs {
		for _, f := range s.Functions {
			paths = append(paths, f.Module)
			if f.ConfigFile != "" {
				paths = append(paths, f.ConfigFile)
			}
		}
	}
	return paths
}
