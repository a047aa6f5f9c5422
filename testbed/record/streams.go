package record

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

const (
	streamPort = 5004 // as for RTP
	// streamEach is the datagrams sent in one second to each of the server's
	// addresses, streamBytes the sizes of their payload in turn.
	streamEach = 150
	// The server answers every so many datagrams.
	streamReport = 10
)

var streamBytes = []int{172, 172, 172, 1200, 20, 1472 - 20, 0}

// openStream starts a receiver of datagrams.
func openStream(n *network) (*service, error) {
	conns, err := n.listenPacket(streamPort)
	if err != nil {
		return nil, err
	}
	var all sync.WaitGroup
	for _, c := range conns {
		all.Go(func() { takeStream(c) })
	}
	return &service{
		name: "UDP",
		say: func(ctx context.Context, counts *Traffic) error {
			for _, server := range servers(streamPort) {
				sent, err := stream(ctx, n, server)
				counts.Datagrams += sent
				if err != nil {
					return fmt.Errorf("stream to %s: %w", server, err)
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

// stream sends a second's datagrams, in little bursts.
func stream(ctx context.Context, n *network, server string) (sent uint64, err error) {
	conn, err := n.dial(ctx, "udp", server)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	for i := range streamEach {
		if i%10 == 0 {
			if err := sleepUntil(ctx, time.Now().Add(5*time.Millisecond)); err != nil {
				return sent, err
			}
		}
		if _, err := conn.Write(text(streamBytes[i%len(streamBytes)])); err != nil {
			return sent, err
		}
		sent++
	}
	return sent, nil
}

// takeStream receives until conn is closed, and reports to the sender at times.
func takeStream(conn net.PacketConn) {
	buf := make([]byte, 2048)
	for n := 1; ; n++ {
		_, from, err := conn.ReadFrom(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil && n%streamReport == 0 {
			// The sender does not wait for it.
			_, _ = fmt.Fprintf(packetWriter{conn, from}, "received %d\n", n)
		}
	}
}

// packetWriter writes datagrams to one address.
type packetWriter struct {
	net.PacketConn
	to net.Addr
}

func (w packetWriter) Write(b []byte) (int, error) { return w.WriteTo(b, w.to) }

// openTelnet starts a server on port 23 that says who is there.
func openTelnet(n *network) (*service, error) {
	listeners, err := n.listen(23)
	if err != nil {
		return nil, err
	}
	var all sync.WaitGroup
	for _, l := range listeners {
		all.Go(func() { serveTelnet(l) })
	}
	return &service{
		name: "telnet",
		say: func(ctx context.Context, counts *Traffic) error {
			for _, server := range servers(23) {
				if err := telnet(ctx, n, server); err != nil {
					return err
				}
				counts.Telnet++
			}
			return nil
		},
		close: func() error {
			err := closeAll(listeners)
			all.Wait()
			return err
		},
	}, nil
}

const prompt = "login: "

// telnet connects, is asked who it is, and leaves.
func telnet(ctx context.Context, n *network, server string) error {
	conn, err := n.dial(ctx, "tcp", server)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer untilDone(ctx, conn)()
	if _, err := io.ReadFull(conn, make([]byte, len(prompt))); err != nil {
		return fmt.Errorf("%s: %w", server, err)
	}
	if _, err := io.WriteString(conn, "nobody\r\n"); err != nil {
		return fmt.Errorf("%s: %w", server, err)
	}
	// The server says goodbye and hangs up.
	if _, err := io.Copy(io.Discard, conn); err != nil {
		return fmt.Errorf("%s: %w", server, err)
	}
	return nil
}

// serveTelnet serves one connection after the other until l is closed.
func serveTelnet(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		// A client that goes away or is slow has only itself to blame.
		_ = conn.SetDeadline(time.Now().Add(queryTimeout))
		if _, err := io.WriteString(conn, prompt); err == nil {
			if _, err := bufio.NewReader(conn).ReadString('\n'); err == nil {
				_, _ = io.WriteString(conn, "bye\r\n")
			}
		}
		_ = conn.Close()
	}
}
