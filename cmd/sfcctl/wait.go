package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"sfc/ctrl/api"
	"sfc/ctrl/client"
)

// readyTimeout is how long commands wait for what they asked for to be in force,
// and refusedFor how long it must be refused: what it needs may come at the same
// time. retriedFor is that for what the daemon tries again by itself.
const (
	readyTimeout = 15 * time.Second
	refusedFor   = time.Second
	retriedFor   = 3 * time.Second
)

// waitReady returns when the Ready condition of an object speaks of its
// generation and is True, or says why it is not. It looks again soon at first.
func waitReady(ctx context.Context, what string, look func(context.Context) (api.Conditions, int64, error)) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	var last api.Conditions
	start := time.Now()
	for pause := 2 * time.Millisecond; ; pause = min(pause*3/2, 200*time.Millisecond) {
		conditions, generation, err := look(ctx)
		if err != nil && ctx.Err() == nil {
			return err
		}
		if c := conditions.Find(api.Ready); c != nil && c.ObservedGeneration >= generation {
			if c.Status == api.True {
				return nil
			}
			last = conditions
			if c.Status == api.False && time.Since(start) > patience(conditions) {
				return notReady(what, conditions)
			}
		}
		select {
		case <-ctx.Done():
			if last != nil {
				return notReady(what, last)
			}
			return fmt.Errorf("%s is not ready after %v: is the data plane running? See sfcctl status", what, readyTimeout)
		case <-time.After(pause):
		}
	}
}

// patience is how long to wait for something that is not ready.
func patience(cs api.Conditions) time.Duration {
	switch c := cs.Find(api.Progressing); {
	case c == nil || c.Status != api.True:
		return refusedFor // nothing comes of it unless somebody does something
	case c.Reason == api.WillRetry && cs.Find(api.Ready).Reason != api.OnProbation:
		return retriedFor
	}
	return readyTimeout
}

// notReady says why something is not ready, and what becomes of it.
func notReady(what string, cs api.Conditions) error {
	ready, text := cs.Find(api.Ready), ""
	if c := cs.Find(api.Progressing); c != nil && c.Reason == api.WillRetry {
		text = " (" + c.Message + ")"
	}
	return fmt.Errorf("%s is not ready: %s: %s%s", what, ready.Reason, ready.Message, text)
}

// waitPorts waits until ports are attached.
func waitPorts(cmd *cobra.Command, c *client.Client, r *remote, list []api.Port) error {
	var errs []error
	for i := range list {
		name := list[i].Metadata.Name
		err := waitReady(cmd.Context(), "port "+name, func(ctx context.Context) (api.Conditions, int64, error) {
			p, err := c.Ports().Get(ctx, name)
			if err != nil {
				return nil, 0, err
			}
			return p.Status.Conditions, p.Metadata.Generation, nil
		})
		if err == nil && !r.json {
			err = r.done(nil, nil, "port %s is attached", name)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
