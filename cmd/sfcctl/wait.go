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
// time.
const (
	readyTimeout = 15 * time.Second
	refusedFor   = time.Second
)

// waitReady returns when the Ready condition of an object speaks of its
// generation and is True, or says why it is not. It looks again soon at first.
func waitReady(ctx context.Context, what string, look func(context.Context) (api.Conditions, int64, error)) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	var last *api.Condition
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
			last = c
			if c.Status == api.False && !progressing(conditions) && time.Since(start) > refusedFor {
				return fmt.Errorf("%s is not ready: %s: %s", what, c.Reason, c.Message)
			}
		}
		select {
		case <-ctx.Done():
			if last != nil {
				return fmt.Errorf("%s is not ready: %s: %s", what, last.Reason, last.Message)
			}
			return fmt.Errorf("%s is not ready after %v: is the data plane running? See sfcctl status", what, readyTimeout)
		case <-time.After(pause):
		}
	}
}

// progressing says whether more may come of it without anybody's doing.
func progressing(cs api.Conditions) bool { return cs.IsTrue(api.Progressing) }

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
