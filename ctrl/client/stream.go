package client

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
)

// maxLine bounds a line of a stream, in bytes: an object of 1 MiB with its status.
const maxLine = 16 << 20

// stream makes a call whose answer is a value per line. It ends when the answer
// does, when the caller stops, or with an error.
func stream[T any](ctx context.Context, c *Client, k call) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var zero T
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		resp, err := c.send(ctx, k)
		if err != nil {
			yield(zero, err)
			return
		}
		defer resp.Body.Close()
		lines := bufio.NewScanner(resp.Body)
		lines.Buffer(make([]byte, 0, 64<<10), maxLine)
		for lines.Scan() {
			if len(lines.Bytes()) == 0 {
				continue // keeps the connection alive
			}
			var v T
			if err := json.Unmarshal(lines.Bytes(), &v); err != nil {
				yield(zero, fmt.Errorf("read a line of %.100q: %w", lines.Bytes(), err))
				return
			}
			if !yield(v, nil) {
				return
			}
		}
		if err := lines.Err(); err != nil && !errors.Is(err, io.EOF) {
			yield(zero, err)
		}
	}
}
