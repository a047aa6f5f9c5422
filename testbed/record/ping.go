package record

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"sfc/dataplane/packet"
)

// ICMP types of echo requests and replies (RFC 792, RFC 4443).
const (
	echoRequest4, echoReply4 = 8, 0
	echoRequest6, echoReply6 = 128, 129

	pingID    = 0x5fc
	pingBytes = 56 // of payload, as ping sends
	pingsEach = 5  // a second, of both versions
)

// pinger sends echo requests of one version of IP.
type pinger struct {
	conn           net.PacketConn
	to             net.Addr
	request, reply byte
	sum            bool // the checksum is ours to make; the kernel makes ICMPv6's
	seq            uint16
}

// openPings opens the client's raw sockets. The server's kernel answers.
func openPings(n *network) (*service, error) {
	pingers := []*pinger{
		{to: ipAddr(server4), request: echoRequest4, reply: echoReply4, sum: true},
		{to: ipAddr(server6), request: echoRequest6, reply: echoReply6},
	}
	closeConns := func() error {
		var errs []error
		for _, p := range pingers {
			if p.conn != nil {
				errs = append(errs, p.conn.Close())
			}
		}
		return errors.Join(errs...)
	}
	err := n.client.Do(func() (err error) {
		if pingers[0].conn, err = net.ListenPacket("ip4:icmp", client4.Addr().String()); err != nil {
			return err
		}
		pingers[1].conn, err = net.ListenPacket("ip6:ipv6-icmp", client6.Addr().String())
		return err
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("ping: %w", err), closeConns())
	}
	return &service{
		name: "ping",
		say: func(ctx context.Context, counts *Traffic) error {
			for range pingsEach {
				for _, p := range pingers {
					if err := p.ping(ctx); err != nil {
						return fmt.Errorf("%v: %w", p.to, err)
					}
					counts.Pings++
				}
				if err := sleepUntil(ctx, time.Now().Add(20*time.Millisecond)); err != nil {
					return err
				}
			}
			return nil
		},
		close: closeConns,
	}, nil
}

func ipAddr(p netip.Prefix) *net.IPAddr { return &net.IPAddr{IP: p.Addr().AsSlice()} }

// ping sends an echo request until it is answered: a kernel that is busy may
// drop one.
func (p *pinger) ping(ctx context.Context) (err error) {
	defer untilDone(ctx, p.conn)()
	for range queryTries {
		if err = p.once(); err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return err
}

// once sends one echo request and waits for the reply.
func (p *pinger) once() error {
	p.seq++
	msg := append(make([]byte, 8), text(pingBytes)...)
	msg[0] = p.request
	binary.BigEndian.PutUint16(msg[4:], pingID)
	binary.BigEndian.PutUint16(msg[6:], p.seq)
	if p.sum {
		binary.BigEndian.PutUint16(msg[2:], packet.Checksum(msg, 0))
	}
	if err := p.conn.SetDeadline(time.Now().Add(queryTimeout)); err != nil {
		return err
	}
	if _, err := p.conn.WriteTo(msg, p.to); err != nil {
		return err
	}
	buf := make([]byte, 1500)
	for {
		// Other messages arrive too: neighbour discovery, unreachable ports.
		n, _, err := p.conn.ReadFrom(buf)
		if err != nil {
			return err
		}
		if n >= 8 && buf[0] == p.reply && binary.BigEndian.Uint16(buf[4:]) == pingID && binary.BigEndian.Uint16(buf[6:]) == p.seq {
			return nil
		}
	}
}
