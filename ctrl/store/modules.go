package store

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Modules keeps immutable content by its SHA-256. It is an object store of NATS
// (ADR-20), which any of its tools reads; this package writes it itself so
// that content gets its name when all of it is known, appears at once or not
// at all, and what an upload that died has left behind is found.
//
//	$O.modules.C.<upload>         chunks, in order
//	$O.modules.M.<name, base64>   one message: size, digest, which upload
type Modules struct {
	space  *Space
	stream jetstream.Stream

	mu       sync.Mutex
	unused   map[string]bool // found unused by the last Collect
	arriving map[string]int  // digests that are being put, which Collect leaves alone
}

const (
	modulesName   = "modules"
	modulesStream = "OBJ_" + modulesName
	chunkSubjects = "$O." + modulesName + ".C."
	metaSubjects  = "$O." + modulesName + ".M."

	// chunkSize is the size of the pieces a module is stored in, in bytes. Each is
	// synced by itself.
	chunkSize = 512 << 10
)

// Module says what is known of stored content.
type Module struct {
	Digest   string // SHA-256, 64 hexadecimal digits in lower case
	Size     int64  // bytes
	Revision uint64 // grows with everything that is stored beside it
}

// meta is the message that makes content exist: ObjectInfo of ADR-20.
type meta struct {
	Name   string `json:"name"`
	Bucket string `json:"bucket"`
	Upload string `json:"nuid"`
	Size   int64  `json:"size"`
	Chunks int    `json:"chunks"`
	Digest string `json:"digest"`
}

func openModules(ctx context.Context, sp *Space) (*Modules, error) {
	ctx, cancel := sp.store.within(ctx)
	defer cancel()
	_, err := sp.js.ObjectStore(ctx, modulesName)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		if err := sp.admit(overhead); err != nil {
			return nil, err
		}
		making, cancel := sp.making(ctx)
		defer cancel()
		_, err = sp.js.CreateObjectStore(making, jetstream.ObjectStoreConfig{Bucket: modulesName, Storage: jetstream.FileStorage})
		if err == nil {
			err = sp.persist(modulesStream)
		}
	}
	if err != nil {
		return nil, sp.store.explain(err)
	}
	m := &Modules{space: sp, unused: map[string]bool{}, arriving: map[string]int{}}
	if m.stream, err = sp.js.Stream(ctx, modulesStream); err != nil {
		return nil, sp.store.explain(err)
	}
	kept, err := m.sweep(ctx)
	if err != nil {
		return nil, err
	}
	sp.count("", kept)
	return m, nil
}

// sweep removes the chunks of uploads that never ended, which nobody sees, and
// returns how many modules there are.
func (m *Modules) sweep(ctx context.Context) (kept int, err error) {
	known := map[string]bool{}
	subjects, err := m.subjects(ctx, metaSubjects+">")
	if err != nil {
		return 0, err
	}
	for subject := range subjects {
		info, _, err := m.meta(ctx, subject)
		if err != nil {
			return 0, err
		}
		known[chunkSubjects+info.Upload] = true
	}
	uploads, err := m.subjects(ctx, chunkSubjects+">")
	if err != nil {
		return 0, err
	}
	for subject := range uploads {
		if !known[subject] {
			if err := m.stream.Purge(ctx, jetstream.WithPurgeSubject(subject)); err != nil {
				return 0, m.space.store.explain(err)
			}
		}
	}
	return len(subjects), nil
}

// subjects returns the subjects that match, with the number of messages.
func (m *Modules) subjects(ctx context.Context, filter string) (map[string]uint64, error) {
	info, err := m.stream.Info(ctx, jetstream.WithSubjectFilter(filter))
	if err != nil {
		return nil, m.space.store.explain(err)
	}
	return info.State.Subjects, nil
}

// metaSubject is where the message of a digest is.
func metaSubject(digest string) string {
	return metaSubjects + base64.URLEncoding.EncodeToString([]byte(digest))
}

// meta reads the message that makes content exist.
func (m *Modules) meta(ctx context.Context, subject string) (meta, uint64, error) {
	msg, err := m.stream.GetLastMsgForSubject(ctx, subject)
	if err != nil {
		return meta{}, 0, m.space.store.explain(err)
	}
	var info meta
	if err := json.Unmarshal(msg.Data, &info); err != nil || checkDigest(info.Name) != nil {
		return meta{}, 0, fmt.Errorf("module at %s: %w: its description is not one", subject, ErrDamaged)
	}
	return info, msg.Sequence, nil
}

// Stat says whether content is stored (ErrNotFound), and how large it is.
func (m *Modules) Stat(ctx context.Context, digest string) (Module, error) {
	ctx, cancel := m.space.store.within(ctx)
	defer cancel()
	info, revision, err := m.find(ctx, digest)
	return Module{Digest: info.Name, Size: info.Size, Revision: revision}, err
}

func (m *Modules) find(ctx context.Context, digest string) (meta, uint64, error) {
	if err := checkDigest(digest); err != nil {
		return meta{}, 0, err
	}
	info, revision, err := m.meta(ctx, metaSubject(digest))
	if err != nil {
		return meta{}, 0, fmt.Errorf("module %s: %w", digest, err)
	}
	return info, revision, nil
}

// List returns all modules, in no order.
func (m *Modules) List(ctx context.Context) ([]Module, error) {
	ctx, cancel := m.space.store.within(ctx)
	defer cancel()
	subjects, err := m.subjects(ctx, metaSubjects+">")
	if err != nil {
		return nil, fmt.Errorf("list modules: %w", err)
	}
	list := make([]Module, 0, len(subjects))
	for subject := range subjects {
		info, revision, err := m.meta(ctx, subject)
		if errors.Is(err, ErrNotFound) {
			continue // deleted meanwhile
		}
		if err != nil {
			return nil, fmt.Errorf("list modules: %w", err)
		}
		list = append(list, Module{Digest: info.Name, Size: info.Size, Revision: revision})
	}
	return list, nil
}

// Delete removes content. Whoever reads it at this moment gets an error. What
// must not be deleted while something refers to it is Collect's to find out.
func (m *Modules) Delete(ctx context.Context, digest string) error {
	ctx, cancel := m.space.store.within(ctx)
	defer cancel()
	info, revision, err := m.find(ctx, digest)
	if err != nil {
		return err
	}
	if err := m.space.store.disk.checkDelete(); err != nil {
		return fmt.Errorf("delete module %s: %w", digest, err)
	}
	// First the message that makes it exist, overwritten where it is: what is
	// merely purged may be there again after a crash, since the server does not
	// always note it. A process that dies in between leaves chunks that nobody
	// sees, and so does such a purge; sweep removes them.
	err = m.space.store.explain(m.stream.SecureDeleteMsg(ctx, revision))
	if errors.Is(err, ErrNotFound) {
		return fmt.Errorf("module %s: %w", digest, err) // another was faster
	} else if err != nil {
		return fmt.Errorf("delete module %s: %w", digest, err)
	}
	m.space.count(m.object(digest), -1)
	if err := syncPath(m.blocks()); err != nil {
		return fmt.Errorf("delete module %s: %w", digest, err)
	}
	if err := m.stream.Purge(ctx, jetstream.WithPurgeSubject(chunkSubjects+info.Upload)); err != nil {
		return fmt.Errorf("delete module %s: %w", digest, m.space.store.explain(err))
	}
	return nil
}

// blocks is the directory of the modules' blocks.
func (m *Modules) blocks() string {
	return filepath.Join(m.space.store.dir, engineDir, m.space.account, "streams", modulesStream, "msgs")
}

// Collect deletes modules for which used returns false, now and at the call of
// Collect before, and which were not put in between: so content that has just
// been put, and is about to be referred to, has a whole round for that. It
// returns what was deleted.
func (m *Modules) Collect(ctx context.Context, used func(digest string) bool) (removed []Module, err error) {
	list, err := m.List(ctx)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	before := m.unused
	m.unused = map[string]bool{}
	var drop []Module
	for _, mod := range list {
		switch {
		case used(mod.Digest) || m.arriving[mod.Digest] > 0:
		case before[mod.Digest]:
			drop = append(drop, mod)
		default:
			m.unused[mod.Digest] = true
		}
	}
	m.mu.Unlock()
	for _, mod := range drop {
		if err := m.Delete(ctx, mod.Digest); err != nil && !errors.Is(err, ErrNotFound) {
			return removed, err
		}
		removed = append(removed, mod)
	}
	return removed, nil
}

// arrive keeps Collect away from a digest until the returned function is called,
// and from then on for a round.
func (m *Modules) arrive(digest string) (arrived func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.arriving[digest]++
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.unused, digest)
		if m.arriving[digest]--; m.arriving[digest] == 0 {
			delete(m.arriving, digest)
		}
	}
}

func (m *Modules) object(digest string) string { return modulesName + "\x00" + digest }

// checkDigest refuses what is not a SHA-256 in this package's spelling.
func checkDigest(digest string) error {
	if _, err := hex.DecodeString(digest); err != nil || len(digest) != 64 || strings.ToLower(digest) != digest {
		return fmt.Errorf("digest %.80q: %w: 64 hexadecimal digits in lower case are expected", digest, ErrName)
	}
	return nil
}

// message makes one of the stream's messages.
func message(subject string, data []byte) *nats.Msg {
	return &nats.Msg{Subject: subject, Data: data, Header: nats.Header{}}
}
