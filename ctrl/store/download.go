package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/nats-io/nats.go/jetstream"
)

// Open returns a reader of content, which holds one chunk (512 KiB) at a time. The
// content is verified when all of it was read: a reader that ends with io.EOF
// has given out what was stored, any other error means that it has not, and
// what was read so far must not be used. ctx holds for all of the reading.
func (m *Modules) Open(ctx context.Context, digest string) (io.Reader, Module, error) {
	within, cancel := m.space.store.within(ctx)
	defer cancel()
	info, revision, err := m.find(within, digest)
	if err != nil {
		return nil, Module{}, err
	}
	d := &download{ctx: ctx, m: m, info: info, hash: sha256.New()}
	return d, Module{Digest: digest, Size: info.Size, Revision: revision}, nil
}

// Get returns content, verified.
func (m *Modules) Get(ctx context.Context, digest string) ([]byte, error) {
	r, mod, err := m.Open(ctx, digest)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	b.Grow(int(mod.Size) + bytes.MinRead) // one allocation
	if _, err := b.ReadFrom(r); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// download is content on its way out.
type download struct {
	ctx   context.Context
	m     *Modules
	info  meta
	hash  hash.Hash
	chunk []byte // what is left of it
	next  uint64 // revision after that of the last chunk
	got   int    // chunks
	err   error  // set once
}

// Read implements io.Reader.
func (d *download) Read(p []byte) (int, error) {
	for len(d.chunk) == 0 {
		if d.err == nil {
			d.err = d.advance()
		}
		if d.err != nil {
			return 0, d.err
		}
	}
	n := copy(p, d.chunk)
	d.chunk = d.chunk[n:]
	return n, nil
}

// advance gets the next chunk, or ends the reading: with io.EOF only if what was
// read has the digest by which it was asked for.
func (d *download) advance() error {
	if d.got == d.info.Chunks {
		if hex.EncodeToString(d.hash.Sum(nil)) != d.info.Name {
			return fmt.Errorf("module %s: %w: %w: it is %x", d.info.Name, ErrDamaged, ErrDigest, d.hash.Sum(nil))
		}
		return io.EOF
	}
	ctx, cancel := d.m.space.store.within(d.ctx)
	defer cancel()
	msg, err := d.m.stream.GetMsg(ctx, d.next, jetstream.WithGetMsgSubject(chunkSubjects+d.info.Upload))
	if err != nil {
		err = d.m.space.store.explain(err)
		if errors.Is(err, ErrNotFound) {
			return d.missing(ctx)
		}
		return fmt.Errorf("module %s: chunk %d: %w", d.info.Name, d.got, err)
	}
	d.hash.Write(msg.Data)
	d.chunk, d.next, d.got = msg.Data, msg.Sequence+1, d.got+1
	return nil
}

// missing says why a chunk is not there: the content was deleted while it was
// read, or the disk has lost it.
func (d *download) missing(ctx context.Context) error {
	if _, _, err := d.m.find(ctx, d.info.Name); errors.Is(err, ErrNotFound) {
		return fmt.Errorf("module %s: %w: it was deleted meanwhile", d.info.Name, ErrNotFound)
	}
	return fmt.Errorf("module %s: %w: chunk %d of %d is missing", d.info.Name, ErrDamaged, d.got, d.info.Chunks)
}
