package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// site is where a lab is known: a socket, and a lock that only a living
// process holds. The lock decides; a socket without it is left from a process
// that was killed.
type site struct {
	socket, lock, log string
}

func siteOf(dir, name string) site {
	base := filepath.Join(dir, name)
	return site{base + ".sock", base + ".lock", base + ".log"}
}

// ErrRunning says that a lab of that name is there.
var ErrRunning = errors.New("a lab of that name runs")

// ErrNoLab says that none is.
var ErrNoLab = errors.New("no lab of that name runs")

// claim takes the place and listens. Only root may connect.
func (p site) claim() (_ *net.UnixListener, release func() error, err error) {
	if err := makeDir(filepath.Dir(p.socket)); err != nil {
		return nil, nil, err
	}
	lock, err := p.takeLock()
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, remove(p.lock), lock.Close())
		}
	}()
	if err := remove(p.socket); err != nil { // of one that was killed
		return nil, nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: p.socket, Net: "unix"})
	if err != nil {
		return nil, nil, fmt.Errorf("listen: %w", err)
	}
	if err := os.Chmod(p.socket, 0o600); err != nil {
		return nil, nil, errors.Join(err, l.Close())
	}
	release = func() error {
		err := l.Close()
		if errors.Is(err, net.ErrClosed) {
			err = nil
		}
		// The lock last: until then nobody else makes these files.
		return errors.Join(err, remove(p.socket), remove(p.lock), lock.Close())
	}
	return l, release, nil
}

// takeLock locks the lock's file. It may be removed by the process that ended
// between the opening and the locking here: then this lock is no lock.
func (p site) takeLock() (*os.File, error) {
	for {
		lock, err := os.OpenFile(p.lock, os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			return nil, fmt.Errorf("lock of the lab: %w", err)
		}
		if err := unix.FcntlFlock(lock.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK}); err != nil {
			if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
				err = ErrRunning
			}
			return nil, errors.Join(fmt.Errorf("lock %s: %w", p.lock, err), lock.Close())
		}
		locked, err1 := lock.Stat()
		there, err2 := os.Stat(p.lock)
		if err1 == nil && err2 == nil && os.SameFile(locked, there) {
			return lock, nil
		}
		lock.Close()
	}
}

// makeDir makes the folder of the sockets, for root alone, and refuses one that
// somebody else may write to.
func makeDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the folder of the labs' sockets: %w", err)
	}
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return fmt.Errorf("folder %s: %w", dir, err)
	}
	if st.Uid != uint32(os.Geteuid()) || st.Mode&0o022 != 0 {
		return fmt.Errorf("folder %s belongs to user %d with mode %#o: others must not be able to write to it; chmod go-w, or name another folder", dir, st.Uid, st.Mode&0o777)
	}
	return nil
}

func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// held reports whether a process holds the lock.
func (p site) held() (bool, error) {
	lock, err := os.OpenFile(p.lock, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("lock of the lab: %w", err)
	}
	defer lock.Close()
	who := unix.Flock_t{Type: unix.F_WRLCK}
	if err := unix.FcntlFlock(lock.Fd(), unix.F_OFD_GETLK, &who); err != nil {
		return false, fmt.Errorf("lock %s: %w", p.lock, err)
	}
	return who.Type != unix.F_UNLCK, nil
}

// clear removes what a killed lab left, and says whether there was something.
func (p site) clear() (bool, error) {
	if _, err := os.Lstat(p.socket); errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	_, release, err := p.claim() // so that it cannot be that of a new one
	if err != nil {
		return false, err
	}
	return true, release()
}

// Running returns the names of the labs that run, sorted.
func Running(dir string) ([]string, error) {
	if os.Geteuid() != 0 {
		return nil, ErrNotRoot
	}
	if dir == "" {
		dir = Dir
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.lock"))
	if err != nil {
		return nil, err
	}
	var names []string
	for _, f := range files {
		name := strings.TrimSuffix(filepath.Base(f), ".lock")
		if on, err := siteOf(dir, name).held(); err != nil {
			return nil, err
		} else if on {
			names = append(names, name)
		}
	}
	return names, nil
}

// OpenLog opens the file that a lab's process writes to, beside its socket. It
// is made empty when the lab begins.
func OpenLog(dir, name string) (*os.File, error) {
	o := Options{Dir: dir, Name: name}.withDefaults()
	if err := makeDir(o.Dir); err != nil {
		return nil, err
	}
	return os.OpenFile(LogFile(o), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
}

// LogFile is the file that OpenLog opens.
func LogFile(o Options) string {
	o = o.withDefaults()
	return siteOf(o.Dir, o.Name).log
}
