package api

import "time"

// Values of a condition's status.
const (
	True    = "True"
	False   = "False"
	Unknown = "Unknown"
)

// Types of conditions.
const (
	// Ready: the object is in force as its spec says.
	Ready = "Ready"
	// Progressing: work on it is under way or will be tried again.
	Progressing = "Progressing"
	// Degraded: it is in force, but not as it should be.
	Degraded = "Degraded"
)

// Reasons that clients look for.
const (
	// WillRetry of Progressing: it failed, and is tried again by itself.
	WillRetry = "WillRetry"
	// OnProbation of Ready: it waits for a function's last replacement to be
	// accepted, which takes seconds.
	OnProbation = "OnProbation"
)

// Condition is one aspect of an object's state, as Kubernetes has it.
type Condition struct {
	// Type is the aspect, such as Ready.
	Type string `json:"type"`
	// Status is True, False or Unknown.
	Status string `json:"status" enum:"True,False,Unknown"`
	// Reason is one CamelCase word for programs.
	Reason string `json:"reason"`
	// Message is for people.
	Message string `json:"message"`
	// LastTransitionTime is when Status changed last.
	LastTransitionTime time.Time `json:"lastTransitionTime"`
	// ObservedGeneration is the generation of the spec that this is about.
	ObservedGeneration int64 `json:"observedGeneration,omitzero"`
}

// Conditions are the aspects of an object, one of each type.
type Conditions []Condition

// Find returns the condition of a type, nil when there is none.
func (cs Conditions) Find(typ string) *Condition {
	for i := range cs {
		if cs[i].Type == typ {
			return &cs[i]
		}
	}
	return nil
}

// IsTrue says whether the condition of a type is there and True.
func (cs Conditions) IsTrue(typ string) bool {
	c := cs.Find(typ)
	return c != nil && c.Status == True
}

// Set puts c in the place of the condition of its type. The time of the last
// transition stays when the status does; else it is c's, or now. It says
// whether anything but that time is different.
func (cs *Conditions) Set(c Condition) (changed bool) {
	if c.LastTransitionTime.IsZero() {
		c.LastTransitionTime = time.Now().UTC()
	}
	old := cs.Find(c.Type)
	if old == nil {
		*cs = append(*cs, c)
		return true
	}
	if old.Status == c.Status {
		c.LastTransitionTime = old.LastTransitionTime
	}
	if *old == c {
		return false
	}
	*old = c
	return true
}

// Remove takes the condition of a type away.
func (cs *Conditions) Remove(typ string) {
	for i := range *cs {
		if (*cs)[i].Type == typ {
			*cs = append((*cs)[:i], (*cs)[i+1:]...)
			return
		}
	}
}
