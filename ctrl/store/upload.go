package store

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/nats-io/nats.go/jetstream"
)

// ahead is how many chunks of an upload may be on their way to the disk while
// the next is read. With chunkSize it bounds the memory of an upload.
const ahead = 2

// PutOptions say what an upload must be.
type PutOptions struct {
	// MaxSize is the largest content allowed, in bytes. Required.
	MaxSize int64
	// Digest is the SHA-256 that the content must have; "" for whatever it is.
	// Content that is stored under it already is read and compared, not stored
	// again.
	Digest string
}

// Put stores what r holds and returns under which digest. The content exists
// when Put returns, whole and on disk; before that, and after an error, there is
// nothing of it. Content that is there already is not an error.
//
// Only what is between two chunks (512 KiB) is ever in memory. r is read to its
// end, or to the first byte beyond a limit. The store's timeout holds for each
// chunk's way to the disk, not for r: a slow sender is ctx's to bound.
func (m *Modules) Put(ctx context.Context, r io.Reader, o PutOptions) (Module, error) {
	if o.MaxSize <= 0 {
		return Module{}, fmt.Errorf("put module: MaxSize %d: a limit is required", o.MaxSize)
	}
	if o.Digest != "" {
		if err := checkDigest(o.Digest); err != nil {
			return Module{}, fmt.Errorf("put module: %w", err)
		}
		// Known content is spared the disk. It is announced before it is looked
		// for, so that it does not go in between.
		defer m.arrive(o.Digest)()
		have, err := m.Stat(ctx, o.Digest)
		if err == nil {
			return have, m.compare(r, o, have)
		} else if !errors.Is(err, ErrNotFound) {
			return Module{}, fmt.Errorf("put module: %w", err)
		}
	}
	u := &upload{m: m, max: o.MaxSize, hash: sha256.New(), subject: chunkSubjects, id: rand.Text()}
	u.subject += u.id
	mod, err := u.run(ctx, r, o.Digest)
	if err != nil {
		return Module{}, fmt.Errorf("put module: %w", errors.Join(err, u.undo(ctx)))
	}
	return mod, nil
}

// compare reads content that is stored already and says whether it is that.
func (m *Modules) compare(r io.Reader, o PutOptions, have Module) error {
	h := sha256.New()
	n, err := io.Copy(h, io.LimitReader(r, o.MaxSize+1))
	switch {
	case err != nil:
		return fmt.Errorf("put module: read it: %w", err)
	case n > o.MaxSize:
		return fmt.Errorf("put module: %w", &TooLargeError{What: "the module", Limit: o.MaxSize})
	case hex.EncodeToString(h.Sum(nil)) != have.Digest:
		return fmt.Errorf("put module: %w: it is %x, not %s", ErrDigest, h.Sum(nil), have.Digest)
	}
	return nil
}

// upload is content on its way in.
type upload struct {
	m       *Modules
	id      string // names the chunks
	subject string // of the chunks
	max     int64
	hash    hash.Hash
	size    int64
	chunks  int
	pending []jetstream.PubAckFuture
}

// run stores the chunks, then the message that makes them a module.
func (u *upload) run(ctx context.Context, r io.Reader, want string) (Module, error) {
	buf := make([]byte, chunkSize)
	for {
		if err := ctx.Err(); err != nil {
			return Module{}, err
		}
		n, err := io.ReadFull(r, buf)
		if n > 0 {
			if err := u.chunk(ctx, buf[:n]); err != nil {
				return Module{}, err
			}
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			break
		} else if err != nil {
			return Module{}, fmt.Errorf("read it: %w", err)
		}
	}
	if err := u.settle(ctx, 0); err != nil {
		return Module{}, err
	}
	digest := hex.EncodeToString(u.hash.Sum(nil))
	if want != "" && want != digest {
		return Module{}, fmt.Errorf("%w: it is %s, not %s", ErrDigest, digest, want)
	}
	return u.finish(ctx, digest)
}

// chunk sends one piece. The client has copied it when chunk returns.
func (u *upload) chunk(ctx context.Context, data []byte) error {
	u.size += int64(len(data))
	if u.size > u.max {
		return &TooLargeError{What: "the module", Limit: u.max}
	}
	if err := u.m.space.admit(int64(len(data) + overhead)); err != nil {
		return err
	}
	u.hash.Write(data)
	u.chunks++
	if err := u.settle(ctx, ahead-1); err != nil {
		return err
	}
	f, err := u.m.space.send(message(u.subject, data))
	if err != nil {
		return err
	}
	u.pending = append(u.pending, f)
	return nil
}

// settle waits until at most left chunks are still on their way.
func (u *upload) settle(ctx context.Context, left int) error {
	for len(u.pending) > left {
		f := u.pending[0]
		u.pending = u.pending[1:]
		within, cancel := context.WithTimeout(ctx, u.m.space.store.opts.Timeout)
		_, err := u.m.space.stored(within, modulesStream, f)
		cancel()
		if err != nil {
			return err
		}
	}
	return nil
}

// finish makes the chunks a module, unless another upload of the same content was
// first.
func (u *upload) finish(ctx context.Context, digest string) (Module, error) {
	defer u.m.arrive(digest)()
	ctx, cancel := u.m.space.store.within(ctx)
	defer cancel()
	release, err := u.m.space.claim(u.m.object(digest))
	if err != nil {
		// At the limit only what is there already may be put.
		if have, known := u.m.Stat(ctx, digest); known == nil {
			return have, u.undo(ctx)
		}
		return Module{}, err
	}
	defer release()
	text, err := json.Marshal(meta{
		Name: digest, Bucket: modulesName, Upload: u.id, Size: u.size, Chunks: u.chunks,
		Digest: "SHA-256=" + base64.URLEncoding.EncodeToString(u.hash.Sum(nil)),
	})
	if err != nil {
		return Module{}, err
	}
	msg := message(metaSubject(digest), text)
	msg.Header.Set(jetstream.ExpectedLastSubjSeqHeader, "0")
	revision, err := u.m.space.publish(ctx, modulesStream, msg)
	switch {
	case errors.Is(err, ErrConflict):
		have, err := u.m.Stat(ctx, digest)
		return have, errors.Join(err, u.undo(ctx))
	case err != nil:
		// It may be stored all the same: then its chunks must stay. If it is
		// not, sweep removes them.
		u.chunks = 0
		return Module{}, err
	}
	u.m.space.count(u.m.object(digest), 1)
	return Module{Digest: digest, Size: u.size, Revision: revision}, nil
}

// undo removes the chunks of an upload that came to nothing. It goes on when ctx
// has ended, within the store's timeout. If it fails too, sweep will do it.
func (u *upload) undo(ctx context.Context) error {
	if u.chunks == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), u.m.space.store.opts.Timeout)
	defer cancel()
	// Chunks on their way would arrive after the purge.
	_ = u.settle(ctx, 0)
	if err := u.m.stream.Purge(ctx, jetstream.WithPurgeSubject(u.subject)); err != nil {
		return fmt.Errorf("remove what was uploaded: %w", u.m.space.store.explain(err))
	}
	return nil
}
