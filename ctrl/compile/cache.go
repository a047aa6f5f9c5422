package compile

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// cache is a directory of artifacts. A file is the SHA-256 of what follows, and
// the encoded artifact. Whoever can write there runs code in the data plane, so
// the directory is for its owner alone, and control is trusted with it as it is
// with compiling: see SECURITY.md. A nil cache holds nothing.
type cache struct {
	dir string
	max int64

	mu   sync.Mutex
	size int64
}

const cacheSuffix = ".artifact"

// openCache makes the directory if need be, and throws away what a crash left
// half done.
func openCache(dir string, max int64) (*cache, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("cache of compiled modules: %w", err)
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		return nil, fmt.Errorf("cache of compiled modules: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("cache of compiled modules: %w", err)
	}
	c := &cache{dir: dir, max: max}
	for _, e := range entries {
		if filepath.Ext(e.Name()) != cacheSuffix {
			os.Remove(filepath.Join(dir, e.Name()))
			continue
		}
		if info, err := e.Info(); err == nil {
			c.size += info.Size()
		}
	}
	return c, nil
}

func (c *cache) path(key string) string { return filepath.Join(c.dir, key+cacheSuffix) }

// get returns an artifact, nil when there is none or it is damaged, and notes
// that it was used.
func (c *cache) get(key string) []byte {
	if c == nil {
		return nil
	}
	path := c.path(key)
	text, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	if len(text) < sha256.Size || sha256.Sum256(text[sha256.Size:]) != [sha256.Size]byte(text) {
		c.remove(path)
		return nil
	}
	now := time.Now()
	os.Chtimes(path, now, now) // when it fails it is the next to go, no more
	return text[sha256.Size:]
}

// put keeps an artifact. A cache that cannot is one that has less: nobody fails
// for it.
func (c *cache) put(key string, code []byte) {
	if c == nil || int64(len(code)) > c.max {
		return
	}
	sum := sha256.Sum256(code)
	f, err := os.CreateTemp(c.dir, "new-*")
	if err != nil {
		return
	}
	_, err = f.Write(append(sum[:], code...))
	err = errors.Join(err, f.Sync(), f.Close())
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil {
		before := sizeOf(c.path(key))
		if err = os.Rename(f.Name(), c.path(key)); err == nil {
			c.size += int64(len(code)+len(sum)) - before
		}
	}
	if err != nil {
		os.Remove(f.Name())
		return
	}
	if c.size > c.max {
		c.shrink()
	}
}

func sizeOf(path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return info.Size()
}

func (c *cache) remove(path string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	size := sizeOf(path)
	if os.Remove(path) == nil {
		c.size -= size
	}
}

// shrink removes those that were not used for the longest time, down to nine
// tenths. c.mu is held.
func (c *cache) shrink() {
	entries, err := os.ReadDir(c.dir)
	if err != nil {
		return
	}
	var list []os.FileInfo
	c.size = 0
	for _, e := range entries {
		if info, err := e.Info(); err == nil && filepath.Ext(e.Name()) == cacheSuffix {
			list = append(list, info)
			c.size += info.Size()
		}
	}
	slices.SortFunc(list, func(a, b os.FileInfo) int { return cmp.Compare(a.ModTime().UnixNano(), b.ModTime().UnixNano()) })
	for _, info := range list {
		if c.size <= c.max*9/10 {
			return
		}
		if os.Remove(filepath.Join(c.dir, info.Name())) == nil {
			c.size -= info.Size()
		}
	}
}
