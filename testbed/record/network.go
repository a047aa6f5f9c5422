package record

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"sfc/testbed/netns"
)

// Addresses of the two hosts: private ones (RFC 1918, RFC 4193), as in an
// ordinary capture.
var (
	client4 = netip.MustParsePrefix("10.77.0.2/24")
	server4 = netip.MustParsePrefix("10.77.0.1/24")
	client6 = netip.MustParsePrefix("fd77::2/64")
	server6 = netip.MustParsePrefix("fd77::1/64")
)

// network is two hosts and the link between them.
type network struct {
	client, server *netns.NS
	clientEnd      *netns.Link
}

func openNetwork() (_ *network, err error) {
	n := &network{}
	defer func() {
		if err != nil {
			err = errors.Join(err, n.close())
		}
	}()
	for _, ns := range []**netns.NS{&n.client, &n.server} {
		if *ns, err = netns.New(); err != nil {
			return nil, err
		}
	}
	clientEnd, serverEnd, err := netns.Veth(n.client, "client", n.server, "server", netns.VethOptions{Stack: true})
	if err != nil {
		return nil, err
	}
	n.clientEnd = clientEnd
	for _, a := range []struct {
		link   *netns.Link
		prefix netip.Prefix
	}{{clientEnd, client4}, {serverEnd, server4}, {clientEnd, client6}, {serverEnd, server6}} {
		if err := a.link.AddAddress(a.prefix); err != nil {
			return nil, err
		}
	}
	return n, nil
}

func (n *network) close() error {
	var errs []error
	for _, ns := range []*netns.NS{n.client, n.server} {
		if ns != nil {
			errs = append(errs, ns.Close())
		}
	}
	return errors.Join(errs...)
}

// dial connects from the client's host. The conversation ends with ctx.
func (n *network) dial(ctx context.Context, network, address string) (conn net.Conn, err error) {
	err = n.client.Do(func() error {
		var d net.Dialer
		conn, err = d.DialContext(ctx, network, address)
		return err
	})
	if err != nil {
		return nil, err
	}
	return conn, nil
}

// servers returns the server's two addresses with a port.
func servers(port uint16) []string {
	return []string{
		netip.AddrPortFrom(server4.Addr(), port).String(),
		netip.AddrPortFrom(server6.Addr(), port).String(),
	}
}

// listen opens a TCP listener on each of the server's addresses.
func (n *network) listen(port uint16) (listeners []net.Listener, err error) {
	err = n.server.Do(func() error {
		for _, address := range servers(port) {
			l, err := net.Listen("tcp", address)
			if err != nil {
				return fmt.Errorf("server: %w", err)
			}
			listeners = append(listeners, l)
		}
		return nil
	})
	if err != nil {
		return nil, errors.Join(err, closeAll(listeners))
	}
	return listeners, nil
}

// listenPacket opens a datagram socket on each of the server's addresses.
func (n *network) listenPacket(port uint16) (conns []net.PacketConn, err error) {
	err = n.server.Do(func() error {
		for _, address := range servers(port) {
			c, err := net.ListenPacket("udp", address)
			if err != nil {
				return fmt.Errorf("server: %w", err)
			}
			conns = append(conns, c)
		}
		return nil
	})
	if err != nil {
		return nil, errors.Join(err, closeAll(conns))
	}
	return conns, nil
}

// closeAll closes things that may be closed already.
func closeAll[C interface{ Close() error }](list []C) error {
	var errs []error
	for _, c := range list {
		if err := c.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// untilDone makes reads and writes of conn fail when ctx ends. The caller
// calls the function it returns when it is done with conn.
func untilDone(ctx context.Context, conn interface{ SetDeadline(time.Time) error }) (stop func() bool) {
	return context.AfterFunc(ctx, func() {
		// A connection that is closed needs no deadline.
		_ = conn.SetDeadline(time.Unix(1, 0))
	})
}
