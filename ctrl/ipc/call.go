package ipc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"
)

// Call calls a method of the other side. Files go with it and stay the
// caller's. What came with the answer is the caller's, who closes it; it is nil
// with an error. When ctx ends the other side is told, and what it still
// answers is thrown away. Errors: [Error] in the chain is the method's own
// answer, ErrLost the connection's end.
func Call[Resp any](ctx context.Context, c *Conn, method string, req any, files ...*os.File) (Resp, *Files, error) {
	var resp Resp
	body, err := json.Marshal(req)
	if err != nil {
		return resp, nil, fmt.Errorf("call %s: %w", method, err)
	}
	r, err := c.call(ctx, 0, &frame{Kind: kindCall, Method: method}, body, files)
	if err != nil {
		return resp, nil, fmt.Errorf("call %s: %w", method, err)
	}
	if err := json.Unmarshal(r.body, &resp); err != nil {
		r.files.Close()
		return resp, nil, fmt.Errorf("call %s: %w: answer: %w", method, ErrProtocol, err)
	}
	return resp, r.files, nil
}

// Do is Call for an answer without descriptors: any that come are closed.
func Do[Resp any](ctx context.Context, c *Conn, method string, req any, files ...*os.File) (Resp, error) {
	resp, in, err := Call[Resp](ctx, c, method, req, files...)
	in.Close()
	return resp, err
}

// DoUntil is Do for a method that goes on until ctx ends and then answers with
// what it has: it waits for that, at most for grace.
func DoUntil[Resp any](ctx context.Context, grace time.Duration, c *Conn, method string, req any, files ...*os.File) (Resp, error) {
	var resp Resp
	body, err := json.Marshal(req)
	if err != nil {
		return resp, fmt.Errorf("call %s: %w", method, err)
	}
	r, err := c.call(ctx, grace, &frame{Kind: kindCall, Method: method}, body, files)
	if err != nil {
		return resp, fmt.Errorf("call %s: %w", method, err)
	}
	r.files.Close()
	if err := json.Unmarshal(r.body, &resp); err != nil {
		return resp, fmt.Errorf("call %s: %w: answer: %w", method, ErrProtocol, err)
	}
	return resp, nil
}

// call sends a call and waits for its answer, when ctx ends for grace longer.
func (c *Conn) call(ctx context.Context, grace time.Duration, f *frame, body []byte, files []*os.File) (*reply, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	answer := make(chan *reply, 1)
	c.mu.Lock()
	if c.err != nil {
		defer c.mu.Unlock()
		return nil, c.err
	}
	c.next++
	f.ID = c.next
	c.calls[f.ID] = answer
	c.mu.Unlock()

	if err := c.sendBody(ctx, f, body, files); err != nil {
		c.abandon(f.ID, answer)
		return nil, err
	}
	select {
	case r := <-answer:
		return r.result()
	case <-c.done:
	case <-ctx.Done():
		if err := c.note(&frame{Kind: kindCancel, ID: f.ID}); err != nil {
			c.fail(err)
		}
		if grace > 0 {
			late := time.NewTimer(grace)
			defer late.Stop()
			select {
			case r := <-answer:
				return r.result()
			case <-c.done:
			case <-late.C:
			}
		}
	}
	if r := c.abandon(f.ID, answer); r != nil {
		return r.result() // it came at the same moment
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return nil, c.Err()
}

// result turns a refusal into an error.
func (r *reply) result() (*reply, error) {
	if r.err != nil {
		r.files.Close()
		return nil, r.err
	}
	return r, nil
}

// abandon stops waiting for a call; it returns an answer that came all the
// same.
func (c *Conn) abandon(id uint64, answer chan *reply) *reply {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.calls, id)
	select {
	case r := <-answer:
		return r
	default:
		return nil
	}
}

// deliver hands an answer to the call that waits for it. Nobody may: it was
// canceled.
func (c *Conn) deliver(id uint64, r *reply) {
	c.mu.Lock()
	defer c.mu.Unlock()
	answer := c.calls[id]
	if answer == nil {
		r.files.Close()
		return
	}
	delete(c.calls, id)
	answer <- r // has room: once per call
}

// answer sends the result of a handler, and closes out.
func (c *Conn) answer(id uint64, answer any, out []*os.File, err error) {
	defer closeAll(out)
	f := &frame{Kind: kindReply, ID: id}
	if err == nil {
		var body []byte
		if body, err = json.Marshal(answer); err == nil {
			// The write itself has its time limit, and the caller may have gone.
			err = c.sendBody(context.Background(), f, body, out)
			if err == nil || errors.Is(err, ErrLost) {
				return
			}
		}
	}
	f = &frame{Kind: kindReply, ID: id, Error: asError(err)}
	// An error has ended the connection.
	_ = c.send(context.Background(), f, nil)
}

// asError is how an error travels. Its text is bounded so that it always fits.
func asError(err error) *Error {
	e := &Error{Code: Code(err), Text: err.Error()}
	if e.Code == "" {
		switch {
		case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
			e.Code = CodeCanceled
		case errors.Is(err, ErrTooLarge):
			e.Code = CodeTooLarge
		}
	}
	if len(e.Text) > MaxFrame/16 {
		e.Text = e.Text[:MaxFrame/16]
	}
	return e
}

// sendBody sends a frame with a body, as a memfd where it is long.
func (c *Conn) sendBody(ctx context.Context, f *frame, body []byte, files []*os.File) error {
	if len(files) > MaxFiles {
		return fmt.Errorf("%d descriptors: %w: at most %d", len(files), ErrTooLarge, MaxFiles)
	}
	if len(body) <= MaxFrame-frameRoom {
		f.Body = body
		return c.send(ctx, f, files)
	}
	memfd, err := far(body)
	if err != nil {
		return err
	}
	defer memfd.Close()
	f.Far = true
	return c.send(ctx, f, append([]*os.File{memfd}, files...))
}
