package wasm

import (
	"errors"
	"fmt"
	"time"

	"sfc/nf"
)

// defaultProbation is how long a new version has to stay free of faults.
const defaultProbation = 5 * time.Second

// Errors of replacing functions.
var (
	// ErrLayout: the new version does not understand the flow state.
	ErrLayout = errors.New("flow state of another layout")
	// ErrProbation: the version that runs is still on probation.
	ErrProbation = errors.New("the function's last replacement is still on probation: wait until it is accepted")
	// ErrOnTrial: another version is on trial.
	ErrOnTrial = errors.New("another version of the function is on trial: install it or roll it back first")
	// ErrStale: another replacement came first.
	ErrStale = errors.New("the function was replaced meanwhile: prepare again")
	// ErrUsed: a replacement is installed once, unless it was discarded.
	ErrUsed = errors.New("the replacement was installed or discarded before")
	// ErrSettled: the replacement was accepted, or went back, before.
	ErrSettled = errors.New("the replacement is not on probation")
	// ErrClosed: the group is closed.
	ErrClosed = errors.New("group closed")
)

// ReplaceOptions configure a [Replacement]. The zero value selects the defaults.
type ReplaceOptions struct {
	// ResetState lets the new version start with empty flow state if its layout
	// is another, also if it could migrate. Default: state is migrated, or the
	// replacement is refused.
	ResetState bool
	// Probation is how long a fault of the new version puts the old one back.
	// Default 5 s; below zero only as long as flow state is under way.
	Probation time.Duration
	// Canary makes what a trial needs, see [Replacement.Canary].
	Canary bool
}

// Phase is how far a replacement has come.
type Phase int32

// Phases of a replacement.
const (
	// Prepared: ready to be installed.
	Prepared Phase = iota
	// Probation: the new version runs, the old one waits.
	Probation
	// Accepted: the old version is gone.
	Accepted
	// RolledBack: the new version faulted and is gone, the old one runs.
	RolledBack
	// Discarded: it never ran.
	Discarded
	// OnTrial: some flows meet the new version.
	OnTrial
)

func (p Phase) String() string {
	return [...]string{"prepared", "probation", "accepted", "rolled_back", "discarded", "canary"}[p]
}

// ReplacementStatus is how a replacement stands.
type ReplacementStatus struct {
	Phase Phase
	// From and To are the versions of the manifests.
	From, To string
	// State says what becomes of flow state: "none", "kept", "migrated" or
	// "reset".
	State string
	// Why is the fault after which the old version came back, or what else an
	// operator should know; or empty.
	Why string
}

// Status says how the replacement stands.
func (r *Replacement) Status() ReplacementStatus {
	s := ReplacementStatus{
		Phase: Phase(r.phase.Load()), State: r.state,
		From: r.from.spec.Module.Manifest.Version, To: r.to.spec.Module.Manifest.Version,
	}
	if why := r.why.Load(); why != nil {
		s.Why = *why
	}
	return s
}

// What becomes of flow state.
const (
	stateNone     = "none"
	stateKept     = "kept"
	stateMigrated = "migrated"
	stateReset    = "reset"
)

// stateOf decides what becomes of flow state when version to follows from.
func stateOf(from, to Hop, reset bool) (string, error) {
	old, next := from.Module.Manifest.StateLayout(from.Config), to.Module.Manifest.StateLayout(to.Config)
	switch {
	case old == "" || next == "":
		return stateNone, nil
	case old == next:
		return stateKept, nil
	case reset:
		return stateReset, nil
	case to.Module.migrates && from.Module.Manifest.Name == to.Module.Manifest.Name:
		return stateMigrated, nil
	}
	return "", fmt.Errorf("%w: function %s keeps %q of each flow, and %s %s expects %q: give both the same flow_state_layout and size if they are "+
		"compatible, export %s from the new version of the same function, or ask for a reset of its flow state",
		ErrLayout, to.Name, old, to.Module.Manifest.Name, to.Module.Manifest.Version, next, nf.ExportMigrate)
}
