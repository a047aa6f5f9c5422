package ipc

import (
	"context"
	"os"
	"testing"

	"sfc/testbed/gate"
)

func TestMain(m *testing.M) { os.Exit(gate.Main(m)) }

// pair returns the two ends of a connection.
func pair(t *testing.T, a, b Options) (*Conn, *Conn) {
	t.Helper()
	x, y, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	type opened struct {
		c   *Conn
		err error
	}
	other := make(chan opened)
	go func() {
		c, err := Open(t.Context(), y, b)
		other <- opened{c, err}
	}()
	ca, err := Open(t.Context(), x, a)
	cb := <-other
	if err != nil || cb.err != nil {
		t.Fatal(err, cb.err)
	}
	t.Cleanup(func() { ca.Close(); cb.c.Close() })
	return ca, cb.c
}

type echo struct{ Text string }

// echoMux has the method echo, which gives text and descriptors back.
func echoMux() *Mux {
	m := NewMux()
	Handle(m, "echo", func(_ context.Context, r echo, in *Files) (echo, []*os.File, error) {
		return r, in.TakeAll(), nil
	})
	return m
}
