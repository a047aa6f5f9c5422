package keeper

import (
	"context"
	"errors"
	"fmt"
	"time"

	"sfc/ctrl/ipc"
	"sfc/ctrl/kernelipc"
)

// pulsesPerBound is how often a child is asked in the time in which it must
// answer.
const pulsesPerBound = 4

// bound is how long a child of a role may stand still; 0: for ever.
func (o *Options) bound(role string) time.Duration {
	if role == kernelipc.RoleDataplane {
		return max(o.HangWait, 0)
	}
	return max(o.ControlHangWait, 0)
}

// pulse asks a child that is ready again and again whether it still moves, until
// it ends. When it does not, hung has the reason. Time in which this process
// itself stood still does not count.
func (p *process) pulse(bound time.Duration) {
	if bound == 0 {
		return
	}
	every := bound / pulsesPerBound
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-p.gone:
			return
		case <-p.conn.Done():
			return
		case <-tick.C:
		}
		asked := time.Now()
		ctx, cancel := context.WithTimeout(context.Background(), bound)
		_, err := ipc.Do[kernelipc.None](ctx, p.conn, kernelipc.MethodPing, kernelipc.None{})
		late := ctx.Err() != nil
		cancel()
		var refused *ipc.Error
		switch {
		case err == nil:
		case errors.As(err, &refused) && refused.Code == ipc.CodeNoMethod, errors.Is(err, ipc.ErrLost):
			return // one from before there were pulses, or one that has ended
		case late && time.Since(asked) > bound+every:
		case late:
			p.hung <- fmt.Sprintf("did not answer for %v", bound)
			return
		default:
			p.hung <- "cannot go on: " + err.Error()
			return
		}
	}
}
