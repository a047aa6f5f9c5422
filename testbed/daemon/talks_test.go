package daemon

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"sfc/testbed/netns"
)

// Established flows: every client socket talks with every server socket.
const (
	clientSockets = 50
	serverSockets = 40
	udpFlows      = clientSockets * serverSockets
	tcpFlows      = 40

	clientPorts = 20_000 // from here on
	serverPorts = 7_000
	tcpPort     = 80
)

// listen opens a UDP socket on a host.
func (b *bed) listen(ns *netns.NS, address string, port int) (c *net.UDPConn) {
	b.tb.Helper()
	check(b.tb, ns.Do(func() (err error) {
		c, err = net.ListenUDP("udp4", &net.UDPAddr{IP: net.ParseIP(address), Port: port})
		return err
	}))
	return c
}

// talks are UDP flows and TCP connections between client and server that stay,
// with traffic on them all the time.
type talks struct {
	b                *bed
	clients, servers []*net.UDPConn
	// seen are the latest rounds that came at the client, and at the server, by
	// flow.
	seen  [2][]atomic.Uint32
	round uint32
	conns [][2]net.Conn // client's and server's end
	bytes atomic.Int64  // that came on the first connection, which never rests

	stop chan struct{}
	all  sync.WaitGroup
}

// Ends, as indices of talks.seen.
const (
	atClient = iota
	atServer
)

// Messages: a byte what it is, four for the flow, four for the round.
const (
	plain   = 1
	echo    = 2 // to be answered
	msgSize = 9
)

// newTalks begins all flows from the client; they end with the test.
func newTalks(b *bed) *talks {
	b.tb.Helper()
	t := &talks{b: b, stop: make(chan struct{})}
	t.seen[0], t.seen[1] = make([]atomic.Uint32, udpFlows), make([]atomic.Uint32, udpFlows)
	for i := range clientSockets {
		t.clients = append(t.clients, b.listen(b.client, clientAddress, clientPorts+i))
	}
	for i := range serverSockets {
		t.servers = append(t.servers, b.listen(b.server, serverAddress, serverPorts+i))
	}
	b.tb.Cleanup(t.close)
	for end, list := range [2][]*net.UDPConn{t.clients, t.servers} {
		for _, c := range list {
			t.all.Go(func() { t.read(end, c) })
		}
	}
	t.connect()
	// From inside, so that the firewall lets the answers in.
	t.pass("in the beginning", atServer)
	t.pass("in the beginning", atClient)
	t.all.Go(t.chatter)
	t.all.Go(t.stream)
	return t
}

func (t *talks) close() {
	close(t.stop)
	for _, c := range append(t.clients, t.servers...) {
		c.Close()
	}
	for _, c := range t.conns {
		c[0].Close()
		c[1].Close()
	}
	t.all.Wait()
}

// read takes what comes to a socket, and answers what wants an answer.
func (t *talks) read(end int, c *net.UDPConn) {
	buf := make([]byte, 64)
	for {
		n, from, err := c.ReadFromUDPAddrPort(buf)
		if err != nil {
			return // closed
		}
		flow := binary.BigEndian.Uint32(buf[1:])
		if n != msgSize || flow >= udpFlows {
			continue
		}
		if buf[0] == echo {
			buf[0] = plain
			_, _ = c.WriteToUDPAddrPort(buf[:n], from) // it has been closed
			continue
		}
		// Rounds only grow.
		if round := binary.BigEndian.Uint32(buf[5:]); round > t.seen[end][flow].Load() {
			t.seen[end][flow].Store(round)
		}
	}
}

// send sends a message of a flow to one end.
func (t *talks) send(flow, to int, kind byte, round uint32) error {
	buf := make([]byte, msgSize)
	buf[0] = kind
	binary.BigEndian.PutUint32(buf[1:], uint32(flow))
	binary.BigEndian.PutUint32(buf[5:], round)
	i, j := flow/serverSockets, flow%serverSockets
	var err error
	if to == atServer {
		_, err = t.clients[i].WriteToUDP(buf, &net.UDPAddr{IP: net.ParseIP(serverAddress), Port: serverPorts + j})
	} else {
		_, err = t.servers[j].WriteToUDP(buf, &net.UDPAddr{IP: net.ParseIP(clientAddress), Port: clientPorts + i})
	}
	return err
}

// passWait is how long the packets of all flows may take, repeated where a full
// ring lost one.
const passWait = 15 * time.Second

// window is how many packets may be on their way: rings have room for some
// hundred while the worker does not have its core.
const window = 64

// pass sends a message on every flow towards an end until one of each has come.
func (t *talks) pass(when string, end int) {
	t.b.tb.Helper()
	t.round++
	var missing []int
	for flow := range udpFlows {
		missing = append(missing, flow)
	}
	for limit := time.Now().Add(passWait); len(missing) > 0; {
		if time.Now().After(limit) {
			t.b.tb.Fatalf("%s: %d of %d UDP flows are lost", when, len(missing), udpFlows)
		}
		var lost []int
		for some := range slices.Chunk(missing, window) {
			for _, flow := range some {
				check(t.b.tb, t.send(flow, end, plain, t.round))
			}
			lost = append(lost, t.arrive(end, some)...)
		}
		missing = lost
	}
}

// arriveWait is how long packets may be on their way.
const arriveWait = 500 * time.Millisecond

// arrive waits for this round's packets of some flows, and returns those that did
// not come.
func (t *talks) arrive(end int, flows []int) (lost []int) {
	for limit := time.Now().Add(arriveWait); ; time.Sleep(100 * time.Microsecond) {
		lost = lost[:0]
		for _, flow := range flows {
			if t.seen[end][flow].Load() != t.round {
				lost = append(lost, flow)
			}
		}
		if len(lost) == 0 || time.Now().After(limit) {
			return lost
		}
	}
}

// chatter has some flows talk all the time: 1,000 questions a second, as many
// answers.
func (t *talks) chatter() {
	tick := time.NewTicker(4 * time.Millisecond)
	defer tick.Stop()
	for flow := 0; ; {
		select {
		case <-t.stop:
			return
		case <-tick.C:
		}
		for range 4 {
			if err := t.send(flow, atServer, echo, 0); err != nil {
				return // closed
			}
			flow = (flow + 1) % udpFlows
		}
	}
}

// connect opens the TCP connections.
func (t *talks) connect() {
	t.b.tb.Helper()
	var l net.Listener
	check(t.b.tb, t.b.server.Do(func() (err error) {
		l, err = net.Listen("tcp4", fmt.Sprintf("%s:%d", serverAddress, tcpPort))
		return err
	}))
	defer l.Close()
	for range tcpFlows {
		var c [2]net.Conn
		check(t.b.tb, t.b.client.Do(func() (err error) {
			c[0], err = net.DialTimeout("tcp4", l.Addr().String(), 5*time.Second)
			return err
		}))
		var err error
		if c[1], err = l.Accept(); err != nil {
			c[0].Close()
			t.b.tb.Fatal(err)
		}
		t.conns = append(t.conns, c)
	}
}

// stream sends numbers on the first connection, and sees that they come as they
// went.
func (t *talks) stream() {
	c := t.conns[0]
	t.all.Go(func() {
		buf := make([]byte, 8)
		for want := uint64(0); ; want++ {
			if _, err := io.ReadFull(c[1], buf); err != nil {
				return // closed
			}
			if got := binary.BigEndian.Uint64(buf); got != want {
				t.b.tb.Errorf("TCP stream: %d came, not %d", got, want)
				return
			}
			t.bytes.Add(8)
		}
	})
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	buf := make([]byte, 1024)
	for n := uint64(0); ; {
		select {
		case <-t.stop:
			return
		case <-tick.C:
		}
		for i := 0; i < len(buf); i += 8 {
			binary.BigEndian.PutUint64(buf[i:], n)
			n++
		}
		if _, err := c[0].Write(buf); err != nil {
			return // closed
		}
	}
}

// speak has both ends of every other connection say something, the server
// first.
func (t *talks) speak(when string) {
	t.b.tb.Helper()
	limit := time.Now().Add(passWait)
	for i, c := range t.conns[1:] {
		word := []byte(fmt.Sprintf("%8d", i))
		got := make([]byte, len(word))
		for end := range 2 {
			from, to := c[1-end], c[end]
			check(t.b.tb, errors.Join(from.SetDeadline(limit), to.SetDeadline(limit)))
			_, err := from.Write(word)
			if err == nil {
				_, err = io.ReadFull(to, got)
			}
			if err != nil || string(got) != string(word) {
				t.b.tb.Fatalf("%s: TCP connection %d: %q, %v", when, i+1, got, err)
			}
		}
	}
	before := t.bytes.Load()
	t.b.within(passWait, when+": the TCP stream goes on", func(context.Context) error {
		if t.bytes.Load() < before+4096 {
			return errors.New("nothing came")
		}
		return nil
	})
}

// alive fails unless every flow and connection still passes. What comes from
// outside is let in only where the flow is known.
func (t *talks) alive(when string) {
	t.b.tb.Helper()
	t.pass(when, atClient)
	t.pass(when, atServer)
	t.speak(when)
}
