package main

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"syscall"
	"time"
)

// fullQueue is how long clients have to be taken in when there are too many.
const fullQueue = 50 * time.Millisecond

// serves returns when this process's own API does something about a client: it
// answers, or turns him away since there are too many. Both it does at once as
// long as it is not stuck. Without a unix socket there is nothing to ask.
func serves(ctx context.Context, addresses []string) error {
	for _, address := range addresses {
		path, ok := strings.CutPrefix(address, "unix://")
		if !ok {
			continue
		}
		var d net.Dialer
		conn, err := d.DialContext(ctx, "unix", path)
		for errors.Is(err, syscall.EAGAIN) { // the queue is full
			select {
			case <-ctx.Done():
				return err
			case <-time.After(fullQueue):
			}
			conn, err = d.DialContext(ctx, "unix", path)
		}
		if err != nil {
			if ctx.Err() != nil {
				return err
			}
			continue // it was removed, or is for others now: no matter of being stuck
		}
		defer conn.Close()
		defer context.AfterFunc(ctx, func() { conn.Close() })()
		if _, err := io.WriteString(conn, "GET /healthz HTTP/1.1\r\nHost: sfcd\r\nConnection: close\r\n\r\n"); err == nil {
			_, _ = conn.Read(make([]byte, 1)) // its end is an answer as well
		}
		return ctx.Err()
	}
	return nil
}
