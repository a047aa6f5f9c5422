package oci

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"syscall"
	"time"
)

// allowed says whether a registry may be asked at all.
func allowed(host string, hosts []string) error {
	if len(hosts) == 0 || named(host, hosts) {
		return nil
	}
	return fmt.Errorf("%w: %s is none of %v: ask the operator to add it", ErrForbidden, host, hosts)
}

// named says whether the operator named a host, with or without its port.
func named(addr string, hosts []string) bool {
	host, _, err := net.SplitHostPort(addr)
	return slices.Contains(hosts, addr) || err == nil && slices.Contains(hosts, host)
}

// httpClient returns a client that connects to named hosts, and otherwise only to
// addresses of the internet. Names are looked up by the dialer itself, so that
// what is checked is what is connected to; redirects and token services are
// dialled the same way.
func httpClient(o Options) *http.Client {
	dialer := &net.Dialer{Timeout: 10 * time.Second}
	guarded := *dialer
	guarded.ControlContext = func(_ context.Context, _, address string, _ syscall.RawConn) error { return public(address) }
	return &http.Client{Transport: &http.Transport{
		// No proxy: it would be asked to connect, and nothing here would see to
		// what.
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			if named(addr, o.Hosts) {
				return dialer.DialContext(ctx, network, addr)
			}
			return guarded.DialContext(ctx, network, addr)
		},
		TLSHandshakeTimeout:    10 * time.Second,
		ResponseHeaderTimeout:  30 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
		DisableKeepAlives:      true, // a client is good for one push or pull
		// What is compressed on the way would be as large as it likes.
		DisableCompression: true,
	}}
}

// Networks that are nobody's on the internet and that [netip.Addr] has no word
// for: shared address space (RFC 6598), benchmarks (RFC 2544), reserved (RFC
// 1112), and IPv4 within IPv6 (RFC 6052).
var notPublic = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("198.18.0.0/15"),
	netip.MustParsePrefix("240.0.0.0/4"), netip.MustParsePrefix("64:ff9b::/96"),
}

// public refuses addresses that are not on the internet.
func public(address string) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrForbidden, address, err)
	}
	a := ap.Addr().Unmap().WithZone("")
	if a.IsGlobalUnicast() && !a.IsPrivate() && !slices.ContainsFunc(notPublic, func(p netip.Prefix) bool { return p.Contains(a) }) {
		return nil
	}
	return fmt.Errorf("%w: %s is not on the internet: ask the operator to name the registry", ErrForbidden, a)
}
