package functions

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"

	"sfc/ctrl/store"
)

// inMemory is how much of an upload is held in memory, in bytes. What is longer
// waits in a file: slow senders of large modules cost no memory.
const inMemory = 128 << 10

// spool is an upload that was read to its end. Who made it closes it.
type spool struct {
	size   int64
	digest [sha256.Size]byte
	head   []byte   // all of it, unless there is a file
	file   *os.File // has no name
}

// receive reads r to its end, or to the first byte beyond limit.
func receive(r io.Reader, limit int64, dir string) (_ *spool, err error) {
	s := &spool{}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	h := sha256.New()
	r = io.TeeReader(io.LimitReader(r, limit+1), h)
	var head bytes.Buffer
	if _, err := head.ReadFrom(io.LimitReader(r, inMemory)); err != nil {
		return nil, fmt.Errorf("read the module: %w", err)
	}
	s.head, s.size = head.Bytes(), int64(head.Len())
	if s.size == inMemory {
		if err := s.spill(r, dir); err != nil {
			return nil, err
		}
	}
	if s.size > limit {
		return nil, &store.TooLargeError{What: "the module", Limit: limit}
	}
	s.sum(h)
	return s, nil
}

func (s *spool) sum(h hash.Hash) { h.Sum(s.digest[:0]) }

// spill moves what was read, and the rest of r, to a file.
func (s *spool) spill(r io.Reader, dir string) (err error) {
	if s.file, err = os.CreateTemp(dir, "upload-*"); err != nil {
		return fmt.Errorf("spool the module: %w", err)
	}
	if err := os.Remove(s.file.Name()); err != nil {
		return fmt.Errorf("spool the module: %w", err)
	}
	if _, err := s.file.Write(s.head); err != nil {
		return fmt.Errorf("spool the module: %w", err)
	}
	s.head = nil
	n, err := io.Copy(s.file, r)
	s.size += n
	if err != nil {
		return fmt.Errorf("read the module: %w", err)
	}
	return nil
}

// bytes returns all of it.
func (s *spool) bytes() ([]byte, error) {
	if s.file == nil {
		return s.head, nil
	}
	b := make([]byte, s.size)
	if _, err := s.file.ReadAt(b, 0); err != nil {
		return nil, fmt.Errorf("read the spooled module: %w", err)
	}
	return b, nil
}

// reader returns a reader of all of it.
func (s *spool) reader() io.Reader {
	if s.file == nil {
		return bytes.NewReader(s.head)
	}
	return io.NewSectionReader(s.file, 0, s.size)
}

// Close lets go of it.
func (s *spool) Close() error {
	s.head = nil
	if s.file == nil {
		return nil
	}
	return s.file.Close()
}
