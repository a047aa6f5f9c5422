package ipc

import (
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// frameRoom is what a frame needs beside its body.
const frameRoom = 4 << 10

// far puts a body that is too long for a frame into a sealed memfd.
func far(body []byte) (*os.File, error) {
	if len(body) > MaxBody {
		return nil, fmt.Errorf("body of %d bytes: %w: at most %d", len(body), ErrTooLarge, MaxBody)
	}
	f, err := Memfd("ipc-body", body)
	if err != nil {
		return nil, err
	}
	return f, nil
}

// Memfd returns a sealed memfd with contents: nobody can change it any more.
// The caller closes it.
func Memfd(name string, contents []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("memfd %s: %w", name, err)
	}
	f := os.NewFile(uintptr(fd), name)
	if _, err := f.WriteAt(contents, 0); err != nil {
		f.Close()
		return nil, fmt.Errorf("memfd %s of %d bytes: %w", name, len(contents), err)
	}
	const seals = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals); err != nil {
		f.Close()
		return nil, fmt.Errorf("memfd %s: seal: %w", name, err)
	}
	return f, nil
}

// ReadMemfd returns what is in a memfd that somebody sent. It insists on seals
// (then it is memory: no file system and no pipe that answers when it likes,
// and nobody changes it while it is read) and on at most limit bytes.
func ReadMemfd(f *os.File, limit int64) ([]byte, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	var seals int
	var st unix.Stat_t
	var sealErr, statErr error
	if err := raw.Control(func(fd uintptr) {
		seals, sealErr = unix.FcntlInt(fd, unix.F_GET_SEALS, 0)
		statErr = unix.Fstat(int(fd), &st)
	}); err != nil {
		return nil, err
	}
	const need = unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE
	switch {
	case sealErr != nil || seals&need != need:
		return nil, fmt.Errorf("%w: a descriptor is no sealed memfd", ErrProtocol)
	case statErr != nil:
		return nil, fmt.Errorf("size of a memfd: %w", statErr)
	case st.Size > limit:
		return nil, fmt.Errorf("%w: a memfd of %d bytes: at most %d", ErrProtocol, st.Size, limit)
	}
	body := make([]byte, st.Size)
	if _, err := io.ReadFull(io.NewSectionReader(f, 0, st.Size), body); err != nil {
		return nil, fmt.Errorf("read a memfd: %w", err)
	}
	return body, nil
}
