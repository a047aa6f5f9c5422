package netns

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// pinDir is where iproute2 looks for named namespaces.
const pinDir = "/run/netns"

// Pin gives the namespace a name that "ip netns" knows and that keeps it, with
// its links, beyond the end of the process, until [NS.Unpin], [RemoveStale] or
// "ip netns delete".
func (ns *NS) Pin(name string) (err error) {
	path, err := pinPath(name)
	if err != nil {
		return err
	}
	fd, err := ns.dup()
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := os.MkdirAll(pinDir, 0o755); err != nil {
		return fmt.Errorf("pin network namespace %s: %w", name, err)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDONLY, 0o444)
	if errors.Is(err, os.ErrExist) {
		return fmt.Errorf("pin network namespace %s: %w; remove it with: ip netns delete %s", name, err, name)
	}
	if err != nil {
		return fmt.Errorf("pin network namespace %s: %w", name, err)
	}
	f.Close()
	if err := unix.Mount(fmt.Sprintf("/proc/self/fd/%d", fd), path, "none", unix.MS_BIND, ""); err != nil {
		return errors.Join(fmt.Errorf("pin network namespace %s: bind %s: %w", name, path, err), os.Remove(path))
	}
	ns.mu.Lock()
	ns.pins = append(ns.pins, name)
	ns.mu.Unlock()
	return nil
}

// Unpin takes back every name that Pin gave.
func (ns *NS) Unpin() error {
	ns.mu.Lock()
	names := ns.pins
	ns.pins = nil
	ns.mu.Unlock()
	var errs []error
	for _, name := range names {
		errs = append(errs, unpin(name))
	}
	return errors.Join(errs...)
}

// Stale returns the named namespaces whose names begin with prefix, sorted:
// what earlier runs pinned and nobody removed.
func Stale(prefix string) ([]string, error) {
	entries, err := os.ReadDir(pinDir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list named network namespaces: %w", err)
	}
	var names []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), prefix) {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	return names, nil
}

// RemoveStale unpins every namespace that [Stale] finds and returns their
// names. An empty prefix is refused: it would remove what others made.
func RemoveStale(prefix string) ([]string, error) {
	if prefix == "" {
		return nil, errors.New("remove named network namespaces: empty prefix would remove all of them")
	}
	names, err := Stale(prefix)
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, name := range names {
		errs = append(errs, unpin(name))
	}
	return names, errors.Join(errs...)
}

// unpin removes one name. A name that is gone already is no error.
func unpin(name string) error {
	path, err := pinPath(name)
	if err != nil {
		return err
	}
	// EINVAL: the file is there, the mount is not (a crash between the two).
	if err := unix.Unmount(path, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("unmount %s: %w", path, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("unpin network namespace %s: %w", name, err)
	}
	return nil
}

func pinPath(name string) (string, error) {
	if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") || len(name) > unix.NAME_MAX {
		return "", fmt.Errorf("name %q of a network namespace: want 1 to %d bytes without '/'", name, unix.NAME_MAX)
	}
	return filepath.Join(pinDir, name), nil
}
