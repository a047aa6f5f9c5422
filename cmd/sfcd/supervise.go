package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"sfc/ctrl/confine"
	"sfc/ctrl/keeper"
)

// supervise is the supervisor: it runs until a signal ends it.
func supervise(ctx context.Context, c *config) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	log := c.logger("supervisor")
	systemd := keeper.NewNotifier()
	// The name is asked for now: after an upgrade /proc says "(deleted)".
	binary, err := os.Executable()
	if err != nil {
		return err
	}
	id, err := c.identity()
	if err != nil {
		return err
	}
	env, err := c.environment()
	if err != nil {
		return err
	}
	opts := keeper.Options{
		RunDir: c.RunDir, DataDir: c.DataDir, Identity: id, Control: true, Log: log, Kernel: newKernel(c, log),
		Command: func(role, exe string) *exec.Cmd { return roleCommand(role, exe, env) },
	}
	if opts.HangWait = c.Watchdog; c.Watchdog == 0 {
		opts.HangWait = -1
	}
	k, err := keeper.Open(opts, func() ([]*os.File, error) { return keeper.Listen(ctx, c.Listen, id) })
	if err != nil {
		return err
	}
	log.Info("sfcd starts", "version", versionText(), "pid", os.Getpid(), "listen", c.Listen, "data", c.DataDir)
	if c.Dev && c.LogFormat == "text" {
		fmt.Fprintf(os.Stderr, "sfcctl finds it with: export SFC_SERVER=%s\n", c.Listen[0])
	}
	var wg sync.WaitGroup
	background, end := context.WithCancel(ctx)
	wg.Go(func() { replaceOnHangup(background, k, binary, systemd, log) })
	wg.Go(func() { tell(background, k, systemd, log) })
	err = k.Run(ctx)
	end()
	wg.Wait()
	for _, address := range c.Listen {
		if path, ok := strings.CutPrefix(address, "unix://"); ok {
			err = errors.Join(err, ignoreAbsent(os.Remove(path)))
		}
	}
	if c.temporary {
		err = errors.Join(err, os.RemoveAll(c.DataDir))
	}
	log.Info("sfcd ended")
	return err
}

func ignoreAbsent(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// identity is whom children run as: the service's user for root, and with --dev
// or without privileges the user who starts.
func (c *config) identity() (*confine.Identity, error) {
	if os.Geteuid() != 0 || c.Dev && c.User == "" {
		return nil, nil
	}
	id, err := confine.LookupIdentity(c.User)
	return &id, err
}

// roleCommand is the command of a child. It has nothing of the environment but
// what the runtime reads.
func roleCommand(role, exe, env string) *exec.Cmd {
	cmd := exec.Command(exe, role)
	cmd.Args[0] = "sfcd: " + role
	cmd.Env = []string{env}
	for _, name := range []string{"PATH", "TMPDIR", "GOMAXPROCS", "GOGC", "GOMEMLIMIT", "GOTRACEBACK", "GODEBUG"} {
		if v, ok := os.LookupEnv(name); ok {
			cmd.Env = append(cmd.Env, name+"="+v)
		}
	}
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	return cmd
}

// replaceOnHangup replaces the children when SIGHUP says so.
func replaceOnHangup(ctx context.Context, k *keeper.Keeper, binary string, systemd keeper.Notifier, log *slog.Logger) {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	for {
		select {
		case <-ctx.Done():
			return
		case <-hangup:
		}
		if err := systemd.Reloading(); err != nil {
			log.Warn("systemd was not told", "error", err)
		}
		if err := k.Replace(ctx, filepath.Clean(binary)); err != nil {
			log.Error("not replaced", "binary", binary, "error", err)
		}
		if err := systemd.Ready(); err != nil {
			log.Warn("systemd was not told", "error", err)
		}
	}
}

// tell keeps systemd informed.
func tell(ctx context.Context, k *keeper.Keeper, systemd keeper.Notifier, log *slog.Logger) {
	every := 250 * time.Millisecond
	if w := systemd.Watchdog(); w > 0 {
		every = min(every, w)
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	said, ready := "", false
	for {
		select {
		case <-ctx.Done():
			_ = systemd.Stopping() // it will see
			return
		case <-tick.C:
		}
		text, all := describe(k)
		var err error
		if all && !ready {
			ready = true
			log.Info("sfcd is ready")
			err = systemd.Ready()
		}
		if text != said {
			said = text
			err = errors.Join(err, systemd.Status(text))
		}
		if systemd.Watchdog() > 0 {
			if stuck := k.Alive(); stuck == nil {
				err = errors.Join(err, systemd.Alive())
			} else {
				log.Error("systemd is to end this process", "error", stuck)
			}
		}
		if err != nil {
			log.Warn("systemd was not told", "error", err)
		}
	}
}

// describe says in words how the children are, and whether all are ready.
func describe(k *keeper.Keeper) (text string, all bool) {
	all = true
	var parts []string
	for _, c := range k.Status().Children {
		part := fmt.Sprintf("%s %s", c.Role, c.State)
		if c.Alarm {
			part += ": it dies again and again: " + c.LastExit
		}
		parts = append(parts, part)
		all = all && c.State == "ready"
	}
	return strings.Join(parts, ", "), all
}
