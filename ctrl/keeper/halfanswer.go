package keeper

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"sfc/bpf"
	"sfc/ctrl/ipc"
	"sfc/ctrl/kernelipc"
	"sfc/dataplane/route"
)

// leastBits is the shortest IPv4 prefix that is answered for: 65,536 addresses.
const leastBits = 16

// answer makes the kernel answer for prefixes on a port. They come from tenants'
// chains, so none may take away what the host itself needs.
func (h *Half) answer(r kernelipc.Answer) (done kernelipc.Answered, err error) {
	p := h.ports[r.Port]
	switch {
	case p == nil:
		return done, fmt.Errorf("answer on port %d: %w", r.Port, bpf.ErrNoPort)
	case len(r.Prefixes) > kernelipc.MaxPrefixes:
		return done, fmt.Errorf("answer for %d prefixes on port %d: at most %d", len(r.Prefixes), r.Port, kernelipc.MaxPrefixes)
	}
	if err := h.openAnswers(); err != nil {
		return done, err
	}
	var good []netip.Prefix
	done.Refused = make([]string, len(r.Prefixes))
	for i, prefix := range r.Prefixes {
		if err := h.mayAnswer(prefix); err != nil {
			done.Refused[i] = err.Error()
			continue
		}
		good = append(good, prefix)
	}
	return done, h.setAnswers(p, good)
}

func (h *Half) openAnswers() (err error) {
	if h.answers == nil {
		h.answers, err = route.OpenProxies()
	}
	return err
}

// mayAnswer refuses prefixes that would cut the host off.
func (h *Half) mayAnswer(prefix netip.Prefix) error {
	if err := route.CheckProxy(prefix); err != nil {
		return err
	}
	switch a := prefix.Addr(); {
	case a.Is4() && prefix.Bits() < leastBits:
		return fmt.Errorf("answer for %v: more than %d addresses; use a prefix of %d bits or more", prefix, 1<<(32-leastBits), leastBits)
	case a.IsLoopback() || a.IsUnspecified() || a.IsLinkLocalUnicast():
		return fmt.Errorf("answer for %v: such addresses are every host's own; use others", prefix)
	}
	return h.answers.Taken(prefix)
}

// setAnswers brings the kernel to what is to be answered for on a port, whatever
// it forgot, and whatever an earlier supervisor left that was killed.
func (h *Half) setAnswers(p *halfPort, want []netip.Prefix) error {
	if err := h.openAnswers(); err != nil {
		return err
	}
	p.Answers = slices.Clone(want)
	err := h.answers.Set(p.Port.Ifindex, want)
	if len(want) == 0 && errors.Is(err, unix.ENODEV) {
		return nil // all went with the interface
	}
	return err
}

// neighbours has the kernel look for neighbours on links of ports.
func (h *Half) neighbours(_ context.Context, r kernelipc.Neighbours, _ *ipc.Files) (none kernelipc.None, _ []*os.File, err error) {
	if len(r.List) > kernelipc.MaxNeighbours {
		return none, nil, fmt.Errorf("ask for %d neighbours: at most %d", len(r.List), kernelipc.MaxNeighbours)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	list := make([]route.Neighbour, 0, len(r.List))
	for _, n := range r.List {
		if n.Addr.IsValid() && n.Addr.Zone() == "" && h.hasLink(n.Ifindex) {
			list = append(list, route.Neighbour(n))
		}
	}
	if err := h.openAnswers(); err != nil {
		return none, nil, err
	}
	return none, nil, h.answers.Use(list)
}

// hasLink says whether an interface is a port's.
func (h *Half) hasLink(ifindex int) bool {
	for _, p := range h.ports {
		if p.Port.Ifindex == ifindex {
			return true
		}
	}
	return false
}
