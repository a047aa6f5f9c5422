package record

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// names are asked for once a second, over IPv4 and IPv6, for both kinds of
// address. The last ones, and only they, are or lie under names that the
// example chain blocks.
var names = []string{
	"www.example.org", "example.com", "mail.example.com", "static.cdn.example.net", "api.example.io",
	"a.very.deep.name.with.many.labels.example.org", "xn--bcher-kva.example", "notdoubleclick.net", "ads.example.org",
	"doubleclick.net", "ad.doubleclick.net", "stats.g.doubleclick.net", "ads.example", "banner.ads.example",
}

// queryTimeout is how long an answer may take before the query is repeated.
const (
	queryTimeout = 2 * time.Second
	queryTries   = 3
)

// openNames starts a name server on port 53.
func openNames(n *network) (*service, error) {
	conns, err := n.listenPacket(53)
	if err != nil {
		return nil, err
	}
	var all sync.WaitGroup
	for _, c := range conns {
		all.Go(func() { serveNames(c) })
	}
	return &service{
		name: "DNS",
		say: func(ctx context.Context, counts *Traffic) error {
			for _, server := range servers(53) {
				for i, name := range names {
					for k, typ := range []dnsmessage.Type{dnsmessage.TypeA, dnsmessage.TypeAAAA} {
						if err := resolve(ctx, n, server, name, typ, uint16(i*2+k+1)); err != nil {
							return fmt.Errorf("ask %s for %s: %w", server, name, err)
						}
						counts.DNSQueries++
					}
				}
			}
			return nil
		},
		close: func() error {
			err := closeAll(conns)
			all.Wait()
			return err
		},
	}, nil
}

// resolve asks for one name from a port of its own, as resolvers do.
func resolve(ctx context.Context, n *network, server, name string, typ dnsmessage.Type, id uint16) error {
	query := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: id, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(name + "."), Type: typ, Class: dnsmessage.ClassINET}},
	}
	packed, err := query.Pack()
	if err != nil {
		return err
	}
	conn, err := n.dial(ctx, "udp", server)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer untilDone(ctx, conn)()
	buf := make([]byte, 1500)
	for range queryTries {
		if _, err = conn.Write(packed); err != nil {
			return err
		}
		if err = conn.SetReadDeadline(time.Now().Add(queryTimeout)); err != nil {
			return err
		}
		var got int
		if got, err = conn.Read(buf); err == nil {
			return checkAnswer(buf[:got], id)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return err
}

func checkAnswer(answer []byte, id uint16) error {
	var p dnsmessage.Parser
	h, err := p.Start(answer)
	if err == nil && (h.ID != id || !h.Response) {
		err = fmt.Errorf("answer to query %d is to %d", id, h.ID)
	}
	return err
}

// serveNames answers every query with the same addresses until conn is closed.
func serveNames(conn net.PacketConn) {
	buf := make([]byte, 1500)
	for {
		n, from, err := conn.ReadFrom(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // an ICMP error of an earlier answer
		}
		answer, err := answerTo(buf[:n])
		if err != nil {
			continue // not a query
		}
		// Whoever gets no answer asks again.
		_, _ = conn.WriteTo(answer, from)
	}
}

// answerTo makes the answer, names compressed, to a query with one question.
func answerTo(query []byte) ([]byte, error) {
	var p dnsmessage.Parser
	h, err := p.Start(query)
	if err != nil {
		return nil, err
	}
	q, err := p.Question()
	if err != nil {
		return nil, err
	}
	h.Response, h.RecursionAvailable = true, true
	m := dnsmessage.Message{Header: h, Questions: []dnsmessage.Question{q}}
	rr := dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 300}}
	switch q.Type {
	case dnsmessage.TypeA:
		rr.Body = &dnsmessage.AResource{A: server4.Addr().As4()}
	case dnsmessage.TypeAAAA:
		rr.Body = &dnsmessage.AAAAResource{AAAA: server6.Addr().As16()}
	default:
		return nil, fmt.Errorf("no record of type %s", q.Type)
	}
	m.Answers = []dnsmessage.Resource{rr}
	return m.Pack()
}
