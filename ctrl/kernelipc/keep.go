package kernelipc

// Methods of both sides for what is kept. The supervisor answers all of them to
// the data plane. The data plane answers Held and Fetch to a new supervisor,
// which so gets back what its predecessor kept.
const (
	MethodKeep   = "keep.keep"   // Keep and one descriptor -> None
	MethodForget = "keep.forget" // Forget -> None
	MethodHeld   = "keep.held"   // None -> Held
	MethodFetch  = "keep.fetch"  // Fetch -> Fetched and descriptors
	// MethodHold is the supervisor's: the data plane is to hold what it made,
	// for the next supervisor. Hold and descriptors -> None
	MethodHold = "keep.hold"
)

// Limits of what is kept.
const (
	// MaxName is the longest name, in bytes.
	MaxName = 255
	// MaxKept is how many descriptors a supervisor keeps.
	MaxKept = 1 << 18
	// MaxFetch is how many of them one call returns.
	MaxFetch = 128
)

// Keep keeps the descriptor that comes with it, in place of one that had the
// name.
type Keep struct{ Name string }

// Forget closes what is kept under the names. Names of nothing are no error.
type Forget struct{ Names []string }

// Held are the names of everything that is kept, sorted.
type Held struct{ Names []string }

// Hold are names of descriptors to hold, in the order of those that come, and
// of some to drop before.
type Hold struct{ Drop, Names []string }

// Fetch asks for descriptors, at most MaxFetch.
type Fetch struct{ Names []string }

// Fetched says which of them came, in their order: what was forgotten in
// between is missing.
type Fetched struct{ Names []string }
