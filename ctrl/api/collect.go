package api

import "time"

// DefaultGrace is how old versions must be before a collection takes them,
// unless it says otherwise.
const DefaultGrace = 24 * time.Hour

// Collect asks for the versions of functions that nothing uses to be removed: no
// alias stands for them or would by a rollback, and no chain runs or names them.
type Collect struct {
	// GraceSeconds is how old a version must be, so that one that was just
	// deployed stays. Left out: a day.
	GraceSeconds *int64 `json:"graceSeconds,omitzero" minimum:"0" maximum:"31622400"`
	// DryRun: say what would go, and remove nothing.
	DryRun bool `json:"dryRun,omitzero"`
}

// maxGrace is the longest grace, in seconds: a leap year.
const maxGrace = 366 * 24 * 60 * 60

// Grace returns how old a version must be, or what is wrong with the wish.
func (c *Collect) Grace() (time.Duration, error) {
	switch s := c.GraceSeconds; {
	case s == nil:
		return DefaultGrace, nil
	case *s < 0 || *s > maxGrace:
		return 0, Invalid(At("graceSeconds", "%d is not between 0 and %d", *s, int64(maxGrace)))
	default:
		return time.Duration(*s) * time.Second, nil
	}
}

// Collected is what a collection removed, or would.
type Collected struct {
	// Versions that nothing uses.
	Versions []CollectedVersion `json:"versions"`
	// Modules is how many modules no version names any more, Bytes how many they
	// had. A module that several versions share goes with the last of them.
	Modules int   `json:"modules"`
	Bytes   int64 `json:"bytes"`
	// DryRun: nothing was removed.
	DryRun bool `json:"dryRun,omitzero"`
}

// CollectedVersion is a version that a collection removed, or would.
type CollectedVersion struct {
	Function string `json:"function"`
	Version  string `json:"version"`
	// Digest is the module's: sha256: and 64 hexadecimal digits.
	Digest    string    `json:"digest"`
	Size      int64     `json:"size"`
	CreatedAt time.Time `json:"createdAt"`
}
