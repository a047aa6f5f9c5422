package ipc

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"os"
)

// Kinds of frames.
const (
	kindHello  = "hello"
	kindCall   = "call"
	kindReply  = "reply"
	kindCancel = "cancel" // the caller waits no longer
)

// frame is what goes over the wire.
type frame struct {
	Kind string `json:"kind"`
	// ID is the caller's number of the call, also in its answer.
	ID     uint64          `json:"id,omitempty"`
	Method string          `json:"method,omitempty"`
	Body   json.RawMessage `json:"body,omitempty"`
	// Far says that the body is in the first descriptor.
	Far   bool   `json:"far,omitempty"`
	Error *Error `json:"error,omitempty"`
}

const (
	headerBytes = 8
	wireFiles   = MaxFiles + 1 // the body's memfd too
	readBytes   = 64 << 10     // how much is asked of the kernel at a time
)

var magic = [2]byte{'s', 'f'}

// encode returns header and object of a frame.
func encode(f *frame, files int) ([]byte, error) {
	// The body is JSON already, and may be long: encoding/json would read it all
	// again.
	head := *f
	head.Body = nil
	object, err := json.Marshal(&head)
	if err != nil {
		return nil, fmt.Errorf("encode %s %s: %w", f.Kind, f.Method, err)
	}
	length := len(object)
	if len(f.Body) > 0 {
		length += len(bodyField) + len(f.Body)
	}
	if length > MaxFrame {
		return nil, fmt.Errorf("%s %s of %d bytes: %w: at most %d", f.Kind, f.Method, length, ErrTooLarge, MaxFrame)
	}
	out := make([]byte, headerBytes, headerBytes+length)
	binary.LittleEndian.PutUint32(out, uint32(length))
	binary.LittleEndian.PutUint16(out[4:], uint16(files))
	copy(out[6:], magic[:])
	if len(f.Body) > 0 {
		out = append(append(out, object[:len(object)-1]...), bodyField...) // kind is in front
		return append(append(out, f.Body...), '}'), nil
	}
	return append(out, object...), nil
}

const bodyField = `,"body":`

// reader cuts the stream into frames. Owner: the connection's reading goroutine.
type reader struct {
	// receive reads some bytes, and the descriptors that came with them, which
	// are the reader's then, also when err is not nil.
	receive func(p []byte) (n int, files []*os.File, err error)

	buf    []byte     // read and not used yet
	queued []*os.File // come, and of no frame yet
}

// next returns the next frame and its descriptors, which are the caller's. At
// the end of the stream between two frames the error is io.EOF.
func (r *reader) next() (*frame, *Files, error) {
	if err := r.fill(headerBytes); err != nil {
		return nil, nil, err
	}
	length, files := binary.LittleEndian.Uint32(r.buf), int(binary.LittleEndian.Uint16(r.buf[4:]))
	switch {
	case [2]byte(r.buf[6:]) != magic:
		return nil, nil, fmt.Errorf("%w: a frame begins with % x", ErrProtocol, r.buf[:headerBytes])
	case length > MaxFrame:
		return nil, nil, fmt.Errorf("%w: a frame of %d bytes: at most %d", ErrProtocol, length, MaxFrame)
	case files > wireFiles:
		return nil, nil, fmt.Errorf("%w: a frame with %d descriptors: at most %d", ErrProtocol, files, wireFiles)
	}
	end := headerBytes + int(length)
	if err := r.fill(end); err != nil {
		return nil, nil, err
	}
	if len(r.queued) < files {
		return nil, nil, fmt.Errorf("%w: a frame announces %d descriptors and has %d", ErrProtocol, files, len(r.queued))
	}
	f := &frame{}
	if err := json.Unmarshal(r.buf[headerBytes:end], f); err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	taken := &Files{list: append([]*os.File(nil), r.queued[:files]...)}
	r.queued = append(r.queued[:0], r.queued[files:]...)
	r.buf = append(r.buf[:0], r.buf[end:]...)
	if len(r.buf) == 0 && len(r.queued) > 0 {
		// Those of the next frame come with its first byte.
		taken.Close()
		return nil, nil, fmt.Errorf("%w: %d descriptors that no frame announced", ErrProtocol, len(r.queued))
	}
	return f, taken, nil
}

// fill reads until there are n bytes.
func (r *reader) fill(n int) error {
	for len(r.buf) < n {
		have := len(r.buf)
		want := max(readBytes, n-have)
		if cap(r.buf) < have+want {
			r.buf = append(make([]byte, 0, have+want), r.buf...)
		}
		got, files, err := r.receive(r.buf[have : have+want])
		r.buf = r.buf[:have+got]
		r.queued = append(r.queued, files...)
		if len(r.queued) > 2*wireFiles {
			return fmt.Errorf("%w: %d descriptors that no frame announced", ErrProtocol, len(r.queued))
		}
		switch {
		case err == io.EOF && len(r.buf) > 0:
			return fmt.Errorf("%w: the stream ends within a frame", ErrProtocol)
		case err != nil:
			return err
		case got == 0:
			return io.ErrNoProgress
		}
	}
	return nil
}

// close closes descriptors that no frame took.
func (r *reader) close() {
	closeAll(r.queued)
	r.queued = nil
}
