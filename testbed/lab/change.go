package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"sfc/ctrl/agent"
	"sfc/dataplane"
	"sfc/dataplane/steer"
)

// MoveArgs say which flows shall go where.
type MoveArgs struct {
	// Chain is a name, or tenant/name; empty: the only one.
	Chain string `json:"chain,omitempty"`
	// Bucket is the flows' ownership bucket, To the worker that gets them.
	Bucket int `json:"bucket"`
	To     int `json:"to"`
}

// MoveReport says how a bucket changed hands.
type MoveReport struct {
	Chain   string `json:"chain"` // tenant/name
	Bucket  int    `json:"bucket"`
	From    int    `json:"from"`
	To      int    `json:"to"`
	Flows   int    `json:"flows"`
	Refused int    `json:"refused"` // of them found no room, and have ended
	// TookNs is the longest that a packet can have been held.
	TookNs int64 `json:"took_ns"`
	// Forced says that packets on their way to the old owner were lost before
	// they got there, in a ring that was full.
	Forced bool `json:"forced"`
}

// Move moves a bucket.
func (l *Lab) Move(a MoveArgs) (*MoveReport, error) {
	chain, err := l.eng.Chain(a.Chain)
	if err != nil {
		return nil, err
	}
	if a.Bucket < 0 || a.Bucket >= steer.Buckets {
		return nil, fmt.Errorf("bucket %d: a chain has buckets 0 to %d", a.Bucket, steer.Buckets-1)
	}
	r, err := l.eng.Move(uint16(chain), uint16(a.Bucket), a.To)
	if err != nil {
		return nil, err
	}
	return l.moved(&r), nil
}

func (l *Lab) moved(r *dataplane.MoveReport) *MoveReport {
	return &MoveReport{
		Chain: l.eng.Plan().Chains[r.Chain].Title(), Bucket: int(r.Bucket), From: r.From, To: r.To,
		Flows: r.Flows, Refused: r.Refused, TookNs: r.Took.Nanoseconds(), Forced: r.Forced,
	}
}

// Move asks for a bucket to be moved.
func (c *Client) Move(ctx context.Context, a MoveArgs) (r *MoveReport, err error) {
	_, err = c.call(ctx, opMove, a, &r)
	return r, err
}

// SwapArgs say what a function shall be replaced by.
type SwapArgs struct {
	// Chain is a name, or tenant/name; empty: the only one.
	Chain    string `json:"chain,omitempty"`
	Function string `json:"function"`
	// Module is the file of the new version, an absolute path; empty: the same
	// module.
	Module string `json:"module,omitempty"`
	// Config is its configuration; nil: the one in force.
	Config json.RawMessage `json:"config,omitempty"`
	// ResetState has flow state that does not fit begin anew.
	ResetState bool `json:"reset_state,omitempty"`
	// ProbationNs is how long a fault puts the old version back; 0: 5 s.
	ProbationNs int64 `json:"probation_ns,omitempty"`
}

// SwapReport says how it was replaced.
type SwapReport struct {
	From string `json:"from"`
	To   string `json:"to"`
	// State is what became of flow state: none, kept, migrated or reset.
	State string `json:"state"`
	// HoldsNs are how long each worker's packets waited.
	HoldsNs []int64 `json:"holds_ns"`
}

// Swap replaces a function.
func (l *Lab) Swap(a SwapArgs) (*SwapReport, error) {
	chain, err := l.eng.Chain(a.Chain)
	if err != nil {
		return nil, err
	}
	hop, err := l.eng.Function(chain, a.Function)
	if err != nil {
		return nil, err
	}
	r, err := l.eng.Swap(chain, hop, agent.SwapOptions{
		Module: a.Module, Config: a.Config, ResetState: a.ResetState, Probation: time.Duration(a.ProbationNs),
	})
	if err != nil {
		return nil, err
	}
	rep := &SwapReport{From: r.From, To: r.To, State: r.State}
	for _, h := range r.Holds {
		rep.HoldsNs = append(rep.HoldsNs, h.Nanoseconds())
	}
	return rep, nil
}

// Swap asks for a function to be replaced.
func (c *Client) Swap(ctx context.Context, a SwapArgs) (r *SwapReport, err error) {
	_, err = c.call(ctx, opSwap, a, &r)
	return r, err
}

// holds reads for how long packets were held because of moves.
func (l *Lab) holds() (*HoldStats, error) {
	h, err := l.eng.Holds()
	if err != nil || h.TotalCount() == 0 {
		return nil, err
	}
	return &HoldStats{
		Packets: uint64(h.TotalCount()), P50Ns: h.ValueAtQuantile(50), P99Ns: h.ValueAtQuantile(99), MaxNs: h.Max(),
	}, nil
}
