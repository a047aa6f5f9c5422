package flow

// Counters are a table's own. For every class
//
//	Created + Inserted = Expired + Evicted + Replaced + Extracted + Lost + live
type Counters struct {
	Created   [NumClasses]uint64 // flows that began here
	Expired   [NumClasses]uint64 // idle for too long
	Evicted   [NumClasses]uint64 // ended to make room
	Replaced  [NumClasses]uint64 // over, and the same tuple began anew; or it was bound to another flow
	Extracted [NumClasses]uint64 // moved to another table
	Inserted  [NumClasses]uint64 // moved here from another table
	Lost      [NumClasses]uint64 // not found again when the table was restored
	Refused   [NumClasses]uint64 // not let in

	Related       uint64 // ICMP errors that quoted a packet of a flow
	Unrelated     uint64 // ICMP errors and later fragments without a flow
	Bindings      uint64 // secondary keys there are now
	BindConflicts uint64 // secondary keys refused: another flow's
	BindRefused   uint64 // secondary keys refused for another reason
}

// Counters returns a copy of the counters.
func (t *Table) Counters() Counters { return *t.count }
