package route

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// proxy is a prefix whose addresses the kernel answers for.
type proxy struct {
	port   int
	prefix netip.Prefix
}

// AddProxy makes the kernel answer ARP and neighbour solicitations for all
// addresses of a prefix that come in on a port, see [Proxies.Set]. They go with
// the link when it is removed, and come again when it was down.
func (t *Table) AddProxy(port int, prefix netip.Prefix) error {
	if _, err := t.port(port); err != nil {
		return fmt.Errorf("answer for %v: %w", prefix, err)
	}
	if err := CheckProxy(prefix); err != nil {
		return err
	}
	p := proxy{port, prefix}
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.closed:
		return fmt.Errorf("answer for %v: %w", prefix, ErrClosed)
	case slices.Contains(t.proxies, p):
		return fmt.Errorf("answer for %v on port %d: is done already", prefix, port)
	}
	t.proxies = append(t.proxies, p)
	if err := t.setProxies(port); err != nil {
		t.proxies = t.proxies[:len(t.proxies)-1]
		return errors.Join(err, t.setProxies(port))
	}
	return nil
}

// RemoveProxy takes back what AddProxy did.
func (t *Table) RemoveProxy(port int, prefix netip.Prefix) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	i := slices.Index(t.proxies, proxy{port, prefix})
	if i < 0 {
		return fmt.Errorf("no longer answer for %v on port %d: nobody asked to", prefix, port)
	}
	t.proxies = slices.Delete(t.proxies, i, i+1)
	return t.setProxies(port)
}

// setProxies brings the kernel to what is asked for on a port. The caller holds
// mu.
func (t *Table) setProxies(port int) error {
	ifindex, err := t.port(port)
	if err != nil {
		return err
	}
	var want []netip.Prefix
	for _, p := range t.proxies {
		if p.port == port {
			want = append(want, p.prefix)
		}
	}
	err = (&Proxies{t.nl}).Set(ifindex, want)
	if len(want) == 0 && errors.Is(err, unix.ENODEV) {
		return nil // all went with the link
	}
	return err
}

// removeProxies removes all.
func (t *Table) removeProxies() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	ports := map[int]bool{}
	for _, p := range t.proxies {
		ports[p.port] = true
	}
	t.proxies = nil
	var errs []error
	for port := range ports {
		errs = append(errs, t.setProxies(port))
	}
	return errors.Join(errs...)
}

// restoreProxies adds again what the kernel removed when a link went down, as far
// as a picture shows it. What cannot be added is counted, and missing.
func (t *Table) restoreProxies(now *snapshot) {
	t.mu.Lock()
	defer t.mu.Unlock()
	done := map[int]bool{}
	for _, p := range t.proxies {
		if done[p.port] || !now.missing(p.port, p.prefix) {
			continue
		}
		done[p.port] = true
		if t.setProxies(p.port) != nil {
			t.failed.Add(1)
		}
	}
}

// missing says whether a port whose link is up does not have the first or the
// last address of a prefix.
func (s *snapshot) missing(port int, prefix netip.Prefix) bool {
	if port >= len(s.ports) || !s.ports[port].up {
		return false
	}
	first, bits := keyOf(prefix.Addr()), prefix.Bits()
	if prefix.Addr().Is4() {
		bits += 96
	}
	for _, k := range [2]key{first, first.last(bits)} {
		if s.ports[port].resolve(k).verdict != Local {
			return true
		}
	}
	return false
}

// Missing says whether the kernel does not answer for all of a prefix, as far as
// the last picture shows it: its link went down and came up again since
// [Proxies.Set].
func (t *Table) Missing(port int, prefix netip.Prefix) bool {
	return t.current.Load().missing(port, prefix)
}
