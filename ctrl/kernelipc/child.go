package kernelipc

import "time"

// Methods of children, called by the supervisor; [MethodReady] is the other
// way.
const (
	// MethodStop makes a child end in order: the data plane stops at a burst
	// boundary, with everything of its flows in what is kept. The answer says
	// that it was heard, exit status 0 that it was done. None -> None
	MethodStop = "child.stop"
	// MethodAdopt is what a new supervisor says to a data plane that an earlier
	// one started. None -> Adopted
	MethodAdopt = "child.adopt"
	// MethodStart makes a child do its work, the data plane with what is kept. It
	// is told when its predecessor is gone. Start -> None
	MethodStart = "child.start"
	// MethodPeer hands a child the socket to another one: control gets the data
	// plane's, and the other way round. Peer and one descriptor -> None
	MethodPeer = "child.peer"
	// MethodPing is answered when everything of a child that must not stand still
	// has moved since it was asked: each worker of the data plane, the API of
	// control. A child that does not answer for too long is killed. None -> None
	MethodPing = "child.ping"
	// MethodReady tells the supervisor that a child is ready: the data plane
	// forwards, control answers. None -> None
	MethodReady = "child.ready"
	// MethodStatus asks the supervisor how its children are. None -> Status
	MethodStatus = "supervisor.status"
)

// Start is how a child begins.
type Start struct {
	// Restarts is how often a data plane was started with what an earlier one
	// left, since the supervisor, or the first of its line, was started.
	Restarts int
	// Began is when the first one was started.
	Began time.Time
	// Because says how the one before ended, if nobody asked it to.
	Because string `json:",omitzero"`
}

// Adopted is how a data plane is that has lost its supervisor.
type Adopted struct {
	// Started: it was told to take over. One that was not waits as the
	// replacement of another one.
	Started bool
	// Ready: it forwards.
	Ready bool
	Start Start
}

// Peer says who is at the other end of a socket: a child's role.
type Peer struct{ Role string }

// Roles of children.
const (
	RoleDataplane = "dataplane"
	RoleControl   = "control"
	RoleCompile   = "compile"
)

// Descriptors that children begin with.
const (
	// SocketFD is the connection to the supervisor.
	SocketFD = 3
	// FoundFD is a bound unix socket. The data plane listens there for the
	// supervisor that comes after its own; so it is the data plane that the
	// kernel names as peer (SO_PEERCRED).
	FoundFD = 4
)

// Status is how the supervisor's children are.
type Status struct {
	PID      int
	Children []ChildStatus
	Kept     int
}

// ChildStatus is how a child is.
type ChildStatus struct {
	Role string
	PID  int // 0: none runs
	// State is starting, ready, stopping, waiting (for the next start) or
	// stopped.
	State string
	Since time.Time
	// Restarts counts starts after an end that nobody asked for.
	Restarts int
	// Alarm: it ended too often in too short a time. While that is so for the
	// data plane, packets meet their ports' policies for unmatched packets.
	Alarm bool
	// Retry is when it is started again, while it is waiting.
	Retry time.Time `json:",omitzero"`
	// LastExit says how it ended the last time.
	LastExit string `json:",omitzero"`
}
