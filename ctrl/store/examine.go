package store

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/minio/highwayhash"
)

// Damage is one thing that was not found on disk as it was written.
type Damage struct {
	Space string // "system", or the name of the tenant
	Name  string // of the bucket, or "modules"
	// Key is what is lost, where that can be told: a key of the bucket. The other
	// keys are whole.
	Key      string
	Revision uint64 // of the value that is lost, 0 if unknown
	// OutOfService says that nothing of it could be saved: opening it returns a
	// [DamagedError].
	OutOfService bool
	What         string // for people
	Quarantine   string // where what was found is kept, if there was anything
}

func (d Damage) String() string {
	what := d.What
	if d.Key != "" {
		what = fmt.Sprintf("key %q, revision %d: %s", d.Key, d.Revision, what)
	}
	if d.Quarantine != "" {
		what += "; kept in " + d.Quarantine
	}
	return fmt.Sprintf("%s of %s: %s", d.Name, d.Space, what)
}

const (
	engineDir     = "jetstream" // of the server, below the store's directory
	quarantineDir = "quarantine"
	removedPrefix = ".removed-" // spaces that are being removed
)

// examine reads all that is on disk before the server does, which would cut a
// block off at the first record it cannot read, and all that comes after it.
// What is broken is copied or moved aside, and named. Buckets with so many markers
// of deletions are compacted.
func examine(dir string, markers int, log *slog.Logger) ([]Damage, error) {
	root := filepath.Join(dir, engineDir)
	accounts, err := os.ReadDir(root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("examine store: %w", err)
	}
	var found []Damage
	for _, account := range accounts {
		if strings.HasPrefix(account.Name(), removedPrefix) {
			if err := os.RemoveAll(filepath.Join(root, account.Name())); err != nil {
				return nil, fmt.Errorf("finish removing a space: %w", named(err))
			}
			continue
		}
		streams, err := os.ReadDir(filepath.Join(root, account.Name(), "streams"))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return nil, fmt.Errorf("examine store: %w", err)
		}
		for _, stream := range streams {
			if strings.HasPrefix(stream.Name(), ".") {
				continue // being deleted
			}
			e := examination{dir: dir, account: account.Name(), stream: stream.Name(), markers: markers}
			if err := e.run(); err != nil {
				return nil, fmt.Errorf("examine %s of %s: %w", e.stream, e.account, named(err))
			}
			found = append(found, e.found...)
		}
	}
	for _, d := range found {
		log.Error("store: damaged", "space", d.Space, "name", d.Name, "key", d.Key, "revision", d.Revision, "what", d.What, "quarantine", d.Quarantine)
	}
	return found, nil
}

// examination is the look at one stream.
type examination struct {
	dir, account, stream string
	markers              int
	found                []Damage
}

func (e *examination) path() string {
	return filepath.Join(e.dir, engineDir, e.account, "streams", e.stream)
}

// run returns an error only if what is damaged cannot be put aside.
func (e *examination) run() error {
	fresh, err := e.description()
	if err == nil && !fresh {
		err = e.blocks()
	}
	if beyond := (*beyondRepair)(nil); errors.As(err, &beyond) {
		return e.isolate(beyond.what)
	}
	return err
}

// beyondRepair says that nothing of a stream can be used.
type beyondRepair struct{ what string }

func (e *beyondRepair) Error() string { return e.what }

// description verifies the files that say what the stream is. fresh says that
// they are not there because a process ended while it made the stream, in which
// nothing can be.
func (e *examination) description() (fresh bool, err error) {
	text, err := os.ReadFile(filepath.Join(e.path(), "meta.inf"))
	sum, err2 := os.ReadFile(filepath.Join(e.path(), "meta.sum"))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err2, fs.ErrNotExist) {
		if empty, err := e.empty(); err != nil {
			return false, err
		} else if empty {
			return true, os.RemoveAll(e.path())
		}
		return false, &beyondRepair{"its description is missing"}
	}
	if err := errors.Join(err, err2); err != nil {
		return false, &beyondRepair{"its description cannot be read: " + err.Error()}
	}
	key := sha256.Sum256([]byte(e.stream))
	h, err := highwayhash.New64(key[:])
	if err != nil {
		return false, err
	}
	h.Write(text)
	if hex.EncodeToString(h.Sum(nil)) != string(sum) {
		return false, &beyondRepair{"its description does not match its checksum"}
	}
	return false, nil
}

// empty says whether no block of the stream has anything in it.
func (e *examination) empty() (bool, error) {
	files, err := filepath.Glob(filepath.Join(e.path(), "msgs", "*.blk"))
	if err != nil {
		return false, err
	}
	for _, f := range files {
		if info, err := os.Stat(f); err != nil {
			return false, err
		} else if info.Size() > 0 {
			return false, nil
		}
	}
	return true, nil
}

// damage begins the description of something damaged in the stream.
func (e *examination) damage() Damage {
	d := Damage{Space: "system", Name: strings.TrimPrefix(e.stream, "KV_")}
	if e.stream == modulesStream {
		d.Name = modulesName
	}
	if escaped, ok := strings.CutPrefix(e.account, tenantPrefix); ok {
		d.Space, _ = unescape(escaped, false)
	}
	return d
}

// isolate moves the whole stream aside.
func (e *examination) isolate(what string) error {
	to, err := freePath(filepath.Join(e.dir, quarantineDir, e.account, e.stream))
	if err != nil {
		return err
	}
	if err := os.Rename(e.path(), to); err != nil {
		return err
	}
	for _, dir := range []string{filepath.Dir(to), filepath.Dir(e.path())} {
		if err := syncPath(dir); err != nil {
			return err
		}
	}
	d := e.damage()
	d.OutOfService, d.What, d.Quarantine = true, what, to
	e.found = append(e.found, d)
	return nil
}

// freePath returns the path, or the first of path.1, path.2 ... that is free,
// and makes the directory above it.
func freePath(path string) (string, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return "", err
	}
	for n := range 1000 {
		p := path
		if n > 0 {
			p = fmt.Sprintf("%s.%d", path, n)
		}
		if _, err := os.Lstat(p); errors.Is(err, fs.ErrNotExist) {
			return p, nil
		} else if err != nil {
			return "", err
		}
	}
	return "", fmt.Errorf("%s: a thousand are kept already: look at them and remove them", path)
}

// quarantined returns a DamagedError for a stream that was moved aside and has
// not been put right since.
func (s *Store) quarantined(sp *Space, name, stream string) error {
	path := filepath.Join(s.dir, quarantineDir, sp.account, stream)
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return fmt.Errorf("open %s of %s: %w", name, sp.name, err)
	}
	return &DamagedError{Space: sp.name, Name: name, Quarantine: path}
}

// syncPath makes what was renamed in a directory, or written to a file, last.
func syncPath(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
