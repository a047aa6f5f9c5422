package store

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// disk watches the room left on the store's file system. The engine below
// takes a failed write for a broken disk and stops writing for good, so a write
// that might not fit is refused before it gets there.
type disk struct {
	dir     string
	minFree int64 // bytes that writes leave free
}

// check says whether size more bytes may be written. It costs one system call.
func (d *disk) check(size int64) error { return d.leaves(size, d.minFree) }

// checkDelete says whether something may be deleted, for which a little has to be
// written: a part of what other writes leave free is there for that.
func (d *disk) checkDelete() error { return d.leaves(0, d.minFree/4) }

// leaves says whether reserve bytes are free when size more are written.
func (d *disk) leaves(size, reserve int64) error {
	var st unix.Statfs_t
	if err := unix.Statfs(d.dir, &st); err != nil {
		return fmt.Errorf("%w: look at %s: %w", ErrUnavailable, d.dir, err)
	}
	if st.Flags&unix.ST_RDONLY != 0 {
		return fmt.Errorf("%s: %w: remount it writable", d.dir, ErrReadOnly)
	}
	free := int64(st.Bavail) * st.Bsize
	if free < reserve+size {
		return fmt.Errorf("%s: %w: %d bytes are free, %d must remain: make room, writes go on then", d.dir, ErrFull, free, reserve+size)
	}
	return nil
}

// named adds this package's word for what the kernel said.
func named(err error) error {
	switch {
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return fmt.Errorf("%w: %w", ErrFull, err)
	case errors.Is(err, unix.EROFS), errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return fmt.Errorf("%w: %w", ErrReadOnly, err)
	}
	return err
}
