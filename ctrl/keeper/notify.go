package keeper

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Notifier tells systemd how the service is: see sd_notify(3). Where nobody
// asked to be told it does nothing.
type Notifier struct {
	socket string
	every  time.Duration
}

// NewNotifier reads the environment. Children must not inherit it: call it
// before they are started; it takes the variables away.
func NewNotifier() Notifier {
	n := Notifier{socket: os.Getenv("NOTIFY_SOCKET")}
	if us, err := strconv.ParseInt(os.Getenv("WATCHDOG_USEC"), 10, 64); err == nil && us > 0 {
		if pid := os.Getenv("WATCHDOG_PID"); pid == "" || pid == strconv.Itoa(os.Getpid()) {
			n.every = time.Duration(us) * time.Microsecond / 2
		}
	}
	for _, name := range []string{"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} {
		os.Unsetenv(name)
	}
	return n
}

// Watchdog returns how often Alive is to be called, 0 for never.
func (n Notifier) Watchdog() time.Duration {
	if n.socket == "" {
		return 0
	}
	return n.every
}

// Ready says that the service works, Stopping that it ends, Alive that it is not
// stuck, Status how it is in words, Reloading that its processes are replaced,
// which Ready ends.
func (n Notifier) Ready() error    { return n.say("READY=1") }
func (n Notifier) Stopping() error { return n.say("STOPPING=1") }
func (n Notifier) Alive() error    { return n.say("WATCHDOG=1") }
func (n Notifier) Status(text string) error {
	return n.say("STATUS=" + strings.ReplaceAll(text, "\n", " "))
}
func (n Notifier) Reloading() error {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return err
	}
	return n.say(fmt.Sprintf("RELOADING=1\nMONOTONIC_USEC=%d", now.Nano()/1000))
}

func (n Notifier) say(text string) error {
	if n.socket == "" {
		return nil
	}
	name := n.socket
	if strings.HasPrefix(name, "@") {
		name = "\x00" + name[1:] // in the abstract name space
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("tell systemd: %w", err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte(text)); err != nil {
		return fmt.Errorf("tell systemd: %w", err)
	}
	return nil
}
