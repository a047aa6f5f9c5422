package planeipc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"sfc/ctrl/ipc"
	"sfc/ctrl/plane"
)

// ErrDown says that there is no data plane right now: it is being started or
// replaced. Calls wait for it a while before they say so.
var ErrDown = errors.New("data plane is down")

// patience is how long a call waits for a data plane that is being started.
const patience = 5 * time.Second

// Client is a plane.Plane at the other end of a connection. Data planes come and
// go: Attach says which connection leads to the present one.
type Client struct {
	mu      sync.Mutex
	conn    *ipc.Conn
	serial  uint64
	changed chan struct{} // closed with each Attach
}

var _ plane.Plane = (*Client)(nil)

// NewClient returns a client without a data plane.
func NewClient() *Client { return &Client{changed: make(chan struct{})} }

// Attach makes conn the connection for all further calls. The caller keeps it:
// it closes the one that was attached before.
func (c *Client) Attach(conn *ipc.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.conn = conn
	c.serial++
	close(c.changed)
	c.changed = make(chan struct{})
}

// Attached returns how many data planes were attached so far, and a channel
// that is closed with the next one. Whoever keeps a data plane as it should be
// looks again then.
func (c *Client) Attached() (serial uint64, next <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.serial, c.changed
}

// live returns a connection that has not ended, and waits for one a while.
func (c *Client) live(ctx context.Context) (*ipc.Conn, error) {
	limit := time.NewTimer(patience)
	defer limit.Stop()
	for {
		c.mu.Lock()
		conn, changed := c.conn, c.changed
		c.mu.Unlock()
		if conn != nil && conn.Err() == nil {
			return conn, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", ErrDown, ctx.Err())
		case <-limit.C:
			if conn != nil {
				return nil, fmt.Errorf("%w: %w", ErrDown, conn.Err())
			}
			return nil, ErrDown
		}
	}
}

func call[Resp any](ctx context.Context, c *Client, method string, req any, files ...*os.File) (resp Resp, err error) {
	conn, err := c.live(ctx)
	if err != nil {
		return resp, err
	}
	return ipc.Do[Resp](ctx, conn, method, req, files...)
}

// PutCode implements [plane.Plane].
func (c *Client) PutCode(ctx context.Context, digest string, code *os.File) error {
	_, err := call[none](ctx, c, methodPutCode, putCode{digest}, code)
	return err
}

// Apply implements [plane.Plane].
func (c *Client) Apply(ctx context.Context, d plane.Desired) (plane.Observed, error) {
	return call[plane.Observed](ctx, c, methodApply, d)
}

// Observe implements [plane.Plane].
func (c *Client) Observe(ctx context.Context) (plane.Observed, error) {
	return call[plane.Observed](ctx, c, methodObserve, none{})
}

// Stats implements [plane.Plane].
func (c *Client) Stats(ctx context.Context) (plane.Stats, error) {
	return call[plane.Stats](ctx, c, methodStats, none{})
}

// Flows implements [plane.Plane].
func (c *Client) Flows(ctx context.Context, q plane.FlowQuery) ([]plane.Flow, error) {
	return call[[]plane.Flow](ctx, c, methodFlows, q)
}

// Events implements [plane.Plane].
func (c *Client) Events(ctx context.Context, after uint64) ([]plane.Event, error) {
	return until[[]plane.Event](ctx, c, methodEvents, eventsReq{after})
}

// Trace implements [plane.Plane].
func (c *Client) Trace(ctx context.Context, r plane.TraceRequest) ([]plane.Trace, error) {
	return until[[]plane.Trace](ctx, c, methodTrace, r)
}

// Capture implements [plane.Plane].
func (c *Client) Capture(ctx context.Context, r plane.CaptureRequest, out *os.File) (plane.CaptureReport, error) {
	return until[plane.CaptureReport](ctx, c, methodCapture, r, out)
}

// grace is how long a method that was told to end may take to answer with what
// it has.
const grace = 2 * time.Second

func until[Resp any](ctx context.Context, c *Client, method string, req any, files ...*os.File) (resp Resp, err error) {
	conn, err := c.live(ctx)
	if err != nil {
		return resp, err
	}
	return ipc.DoUntil[Resp](ctx, grace, conn, method, req, files...)
}
