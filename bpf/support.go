package bpf

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/features"
	"golang.org/x/sys/unix"
)

// ErrNotSupported is wrapped by every [UnsupportedError].
var ErrNotSupported = ebpf.ErrNotSupported

// UnsupportedError says that the running kernel lacks a feature.
type UnsupportedError struct {
	// Feature is the missing feature.
	Feature string
	// MinKernel is the first Linux release that has it.
	MinKernel string
}

func (e *UnsupportedError) Error() string {
	return fmt.Sprintf("kernel lacks %s: it needs Linux %s or newer", e.Feature, e.MinKernel)
}

// Is makes errors.Is(err, ErrNotSupported) true.
func (e *UnsupportedError) Is(target error) bool { return target == ErrNotSupported }

// requirement is a kernel feature and the way to find out whether it is there.
type requirement struct {
	feature, minKernel string
	probe              func() error
}

// requirements of the steering program. Links for XDP (5.9) are implied by the
// last; what is newer than 6.1 is not used.
var requirements = []requirement{
	{"XDP programs", "4.8", func() error { return features.HaveProgramType(ebpf.XDP) }},
	{"AF_XDP socket maps", "4.18", func() error { return features.HaveMapType(ebpf.XSKMap) }},
	{"memory-mapped array maps", "5.5", func() error { return features.HaveMapFlag(features.BPF_F_MMAPABLE) }},
	{"atomic BPF instructions", "5.12", features.HaveV3ISA},
	{"XDP programs for frames of several buffers", "5.18", func() error {
		return features.HaveProgramHelper(ebpf.XDP, asm.FnXdpGetBuffLen)
	}},
}

// checkKernel returns an UnsupportedError for the first requirement that the
// kernel does not meet.
func checkKernel(reqs []requirement) error {
	for _, r := range reqs {
		switch err := r.probe(); {
		case err == nil:
		case errors.Is(err, ErrNotSupported):
			return &UnsupportedError{r.feature, r.minKernel}
		default:
			return explain(fmt.Errorf("probe for %s: %w", r.feature, err))
		}
	}
	return nil
}

// explain adds the cure to a refusal of the kernel for lack of privilege.
func explain(err error) error {
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
		return fmt.Errorf("%w: needs CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN, or root", err)
	}
	return err
}
