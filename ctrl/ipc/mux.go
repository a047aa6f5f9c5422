package ipc

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"sync"
)

// handler answers a call: its body is JSON, and so is the answer.
type handler func(ctx context.Context, body []byte, in *Files) (answer any, out []*os.File, err error)

// Mux is a set of methods. It may be that of many connections, and methods may
// be added while these run.
type Mux struct {
	mu      sync.RWMutex
	methods map[string]handler
}

// NewMux returns a Mux without methods.
func NewMux() *Mux { return &Mux{methods: map[string]handler{}} }

// Handle makes fn answer the calls of a method. Each runs in a goroutine of its
// own; ctx ends when the caller waits no longer or the connection ends.
// Descriptors in that fn does not take are closed when it returns; those it
// returns are closed when they were sent. Handle panics where the method has a
// handler already.
func Handle[Req, Resp any](m *Mux, method string, fn func(ctx context.Context, req Req, in *Files) (Resp, []*os.File, error)) {
	m.add(method, func(ctx context.Context, body []byte, in *Files) (any, []*os.File, error) {
		var req Req
		if err := json.Unmarshal(body, &req); err != nil {
			return nil, nil, Errorf(CodeBadRequest, "%s: %v", method, err)
		}
		return fn(ctx, req, in)
	})
}

func (m *Mux) add(method string, h handler) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.methods[method] != nil {
		panic(fmt.Sprintf("ipc: method %s has two handlers", method))
	}
	m.methods[method] = h
}

func (m *Mux) find(method string) handler {
	if m == nil {
		return nil
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.methods[method]
}
