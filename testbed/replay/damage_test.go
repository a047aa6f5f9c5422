package replay

import (
	"testing"

	"sfc/dataplane/packet"
)

// underwayTracker has n packets under way on path 0.
func underwayTracker(n int) *tracker {
	t := newTracker(Options{Clock: ClockCapture}.withDefaults(), &Report{Dropped: map[string]uint64{}})
	t.names = func(uint16, packet.Outcome) string { return "f.no" }
	for i := range n {
		t.add(&parcel{timeNs: int64(1000 * (i + 1)), data: frame(i), s: steered{verdict: steerPath}})
	}
	return t
}

func frame(i int) []byte { return append(make([]byte, 60), byte(i), byte(i>>8)) }

// played is a worker whose frames are those of frame(i).
type played struct {
	*watcher
	region []byte
}

func watched(t *tracker, worker int) *played {
	return &played{&watcher{tracker: t, worker: worker}, make([]byte, packet.BurstSize*packet.ChunkSize)}
}

// burst is packets from port in, by their numbers as their metadata says.
func (p *played) burst(verdict packet.Verdict, seqs ...uint32) *packet.Burst {
	b := &packet.Burst{N: uint32(len(seqs))}
	for k, seq := range seqs {
		b.Seq[k] = seq
		b.Out[k] = packet.Outcome{Verdict: verdict, Port: portOut}
		b.Frames[k] = packet.Frame{Chunk: uint32(k) * packet.ChunkSize, Len: 62}
		copy(p.region[k*packet.ChunkSize:], frame(int(seq)))
	}
	return b
}

func (p *played) decide(verdict packet.Verdict, seqs ...uint32) {
	b := p.burst(verdict, seqs...)
	p.Received(b)
	p.Decided(b, p.region)
}

// decide lets the only worker decide about packets.
func decide(t *tracker, verdict packet.Verdict, seqs ...uint32) {
	watched(t, 0).decide(verdict, seqs...)
}

func TestOverwrittenMetadata(t *testing.T) {
	tr := underwayTracker(6)
	// Of six packets one says it is the first again, one is from nowhere, and
	// one names no path.
	decide(tr, packet.Tx, 0, 0, 2)
	decide(tr, packet.Drop, 77)
	(&watcher{tracker: tr}).Unknown(1 << 31)
	decide(tr, packet.Pass, 5)
	for _, i := range []int{0, 0, 2} {
		tr.arrived(portOut, frame(i))
	}
	rep := tr.report
	if tr.idle() {
		t.Fatal("packets that nobody can name have a fate already")
	}
	if !tr.reconcile() || !tr.idle() {
		t.Errorf("not reconciled: %+v", rep)
	}
	if rep.Received != 3 || rep.Passed != 1 || rep.Dropped["f.no"] != 1 || rep.Dropped["no_path"] != 1 || rep.Damaged != 3 {
		t.Errorf("%+v", rep)
	}
	if err := rep.Balance(); err != nil {
		t.Error(err)
	}
	if tr.reconcile() {
		t.Error("reconciled again")
	}
}

func TestOverwrittenOnTheWayOut(t *testing.T) {
	tr := underwayTracker(3)
	decide(tr, packet.Tx, 0, 1, 2)
	tr.arrived(portOut, frame(0))
	tr.arrived(portOut, frame(99)) // was the second
	tr.arrived(portOut, frame(2))
	if tr.idle() || !tr.reconcile() || !tr.idle() {
		t.Errorf("%+v", tr.report)
	}
	if rep := tr.report; rep.Received != 3 || rep.Damaged != 1 || rep.Foreign != 0 || rep.Lost != 0 {
		t.Errorf("%+v", rep)
	}
}

// An orphan that waits for its frame to come out is found too.
func TestOrphanUnderWay(t *testing.T) {
	tr := underwayTracker(2)
	decide(tr, packet.Tx, 0)
	decide(tr, packet.Tx, 0)
	tr.arrived(portOut, frame(0))
	if !tr.reconcile() || tr.idle() {
		t.Fatalf("%+v", tr.report)
	}
	tr.arrived(portOut, frame(0))
	if rep := tr.report; !tr.idle() || rep.Received != 2 || rep.Damaged != 1 {
		t.Errorf("%+v", rep)
	}
}

// What really is nobody's stays foreign, and what is gone is lost.
func TestForeignAndLost(t *testing.T) {
	tr := underwayTracker(2)
	decide(tr, packet.Tx, 0)
	tr.arrived(portOut, frame(0))
	for i := range maxStrays + 5 {
		tr.arrived(portOut, frame(1000+i))
	}
	tr.finish()
	if rep := tr.report; rep.Received != 1 || rep.Lost != 1 || rep.Foreign != maxStrays+5 || rep.Damaged != 0 {
		t.Errorf("%+v", rep)
	}
}

func TestTxFull(t *testing.T) {
	tr := underwayTracker(2)
	decide(tr, packet.Tx, 0, 1)
	w := &watcher{tracker: tr}
	w.TxFull(1, portIn)
	w.TxFull(7, portIn) // metadata lies
	w.TxFull(0, portOut)
	tr.arrived(portOut, frame(0))
	if rep := tr.report; !tr.idle() || rep.Received != 1 || rep.Dropped["tx_full"] != 1 {
		t.Errorf("%+v", rep)
	}
}
