package dataplane

import (
	"fmt"
	"testing"
)

// The protocol of move.go as a model small enough to look at every state: one
// flow, a kernel that steers packets 1 to n, two workers, a coordinator that
// moves the bucket there and back. Each step below is atomic, and any may come
// next. Rings are queues; what lies in a TX ring leaves at any time, each
// worker's in its order. A tenant may have to wait at any time: its packets are
// queued, and its turn may come at any time, too.

const (
	modelPackets = 6
	modelMoves   = 3
)

type modelWorker struct {
	state   int8 // of the bucket: 0 owned, 1 arriving, 2 away
	got     int8
	leaving bool
	want    int8
	forced  bool // grace is over: what lies in rx is all
	sending bool // it had all packets: they have to leave
	flow    int8 // packets the functions have seen, when here
	here    bool // the flow's state
	rx      string
	queue   string // packets whose tenant has to wait
	held    string
	tx      string
}

type model struct {
	next   byte // packet to be steered
	inXDP  byte // steered and not delivered yet; 0: none
	to     int8
	lost   int8 // packets the RX ring had no room for
	owner  int8
	sent   int8 // counted for the owner
	w      [2]modelWorker
	parcel int8 // the flow's state under way, -1: none
	phase  int8 // of the move under way: 0 none, 1 told B, 2 flipped, 3 A was told
	moves  int8
	wire   string
}

// broken are ways to get the protocol wrong: each must be found out.
type broken int

const (
	sound broken = iota
	noHold
	noCount
	noDrain
	tellLate
	forceWithoutGrace
	keepQueue
	lateQueue
)

// world is what happens beside moves.
type world struct {
	lossy bool // an RX ring may be full
	turns bool // tenants wait for their turn
}

// steps calls visit with every state that may come after m.
func (m model) steps(bug broken, in world, visit func(string, model)) {
	if m.inXDP == 0 && m.next <= modelPackets {
		n := m
		n.inXDP, n.to = m.next, m.owner
		n.next++
		n.sent++
		visit("steer", n)
	}
	if m.inXDP != 0 {
		n := m
		n.w[m.to].rx += string(rune('0' + m.inXDP))
		n.inXDP = 0
		visit("deliver", n)
		if in.lossy && m.lost == 0 {
			n := m
			n.inXDP = 0
			n.lost++
			visit("ring full", n)
		}
	}
	for i := range m.w {
		m.worker(int8(i), bug, in, visit)
	}
	m.coordinator(bug, in, visit)
}

func (m model) worker(i int8, bug broken, in world, visit func(string, model)) {
	w := &m.w[i]
	if w.rx != "" {
		n := m
		v := &n.w[i]
		p := v.rx[:1]
		v.rx = v.rx[1:]
		v.got++
		hold := v.state == 1 && bug != noHold
		if !hold && in.turns {
			n := n
			n.w[i].queue += p
			visit(fmt.Sprint("queue ", i), n)
		}
		switch {
		case hold:
			v.held += p
			visit(fmt.Sprint("hold ", i), n)
		case v.queue == "": // else it comes behind those
			v.process(p)
			visit(fmt.Sprint("receive ", i), n)
		}
	}
	if w.queue != "" {
		n := m
		v := &n.w[i]
		v.process(v.queue[:1])
		v.queue = v.queue[1:]
		visit(fmt.Sprint("serve ", i), n)
	}
	if w.tx != "" {
		n := m
		n.wire += w.tx[:1]
		n.w[i].tx = w.tx[1:]
		visit(fmt.Sprint("transmit ", i), n)
	}
	done := w.got == w.want || w.forced && w.rx == "" || bug == noCount
	if w.leaving && done && !w.sending {
		n := m
		v := &n.w[i]
		if v.sending = true; bug != keepQueue && bug != lateQueue {
			v.flush()
		}
		visit(fmt.Sprint("all had ", i), n)
	}
	if w.leaving && w.sending && (w.tx == "" || bug == noDrain) {
		n := m
		v := &n.w[i]
		if bug == lateQueue {
			v.flush()
		}
		n.parcel, v.flow, v.here = v.flow, 0, false
		v.leaving, v.forced, v.sending, v.state = false, false, false, 2
		visit(fmt.Sprint("pack ", i), n)
	}
	if m.parcel >= 0 && m.owner == i {
		n := m
		v := &n.w[i]
		v.flow, v.here, n.parcel, v.state, n.phase = m.parcel, true, -1, 0, 0
		for _, p := range v.held {
			v.process(string(p))
		}
		v.held = ""
		visit(fmt.Sprint("unpack ", i), n)
	}
}

// process runs the functions over a packet. Without the flow's state it is a
// new flow to them: an error shows in what leaves.
func (w *modelWorker) process(p string) {
	if !w.here {
		p = "X"
	}
	w.flow++
	w.tx += p
}

// flush processes what waits for its tenant's turn.
func (w *modelWorker) flush() {
	for _, p := range w.queue {
		w.process(string(p))
	}
	w.queue = ""
}

func (m model) coordinator(bug broken, in world, visit func(string, model)) {
	from, to := m.owner, 1-m.owner
	switch m.phase {
	case 0:
		if m.moves < modelMoves {
			n := m
			n.moves++
			n.phase = 1
			if bug != tellLate {
				n.w[to].state, n.w[to].got = 1, 0
			}
			visit("arriving", n)
		}
	case 1:
		n := m
		n.phase = 2
		n.w[from].want = m.sent // what the exchange returns
		n.owner, n.sent = to, 0
		visit("flip", n)
	case 2:
		n := m
		n.phase = 3
		n.w[1-m.owner].leaving = true
		if bug == tellLate {
			n.w[m.owner].state, n.w[m.owner].got = 1, 0
		}
		visit("leave", n)
	case 3:
		// Patience is over. Grace returns when no program runs that began
		// before: here, when none is between steering and delivery.
		old := 1 - m.owner
		if in.lossy && m.w[old].leaving && !m.w[old].forced && (m.inXDP == 0 || m.to != old || bug == forceWithoutGrace) {
			n := m
			n.w[old].forced = true
			visit("force", n)
		}
	}
}

// check returns what is wrong with a state; end says that nothing can come
// after it.
func (m model) check(end bool) string {
	here := 0
	for _, w := range m.w {
		if w.here {
			here++
		}
	}
	if m.parcel >= 0 {
		here++
	}
	if here != 1 {
		return fmt.Sprintf("the flow is in %d places", here)
	}
	last := byte('0')
	for i := range len(m.wire) {
		if m.wire[i] == 'X' {
			return "a packet was processed without its flow's state"
		}
		if m.wire[i] <= last {
			return "order of packets changed: " + m.wire
		}
		last = m.wire[i]
	}
	if end && len(m.wire)+int(m.lost) != modelPackets {
		return fmt.Sprintf("%d packets were sent, %d came out, %d did not fit", modelPackets, len(m.wire), m.lost)
	}
	if end && m.phase != 0 {
		return "a move never ended"
	}
	return ""
}

// explore visits every state that can be reached. It returns how many there
// are, and the steps to the first one that is wrong.
func explore(bug broken, in world) (states int, wrong string, trace []string) {
	type from struct {
		model
		step string
	}
	first := model{next: 1, parcel: -1}
	first.w[0].here = true
	first.w[1].state = 2
	seen := map[model]from{first: {}}
	queue := []model{first}
	for len(queue) > 0 {
		m := queue[0]
		queue = queue[1:]
		after := 0
		m.steps(bug, in, func(step string, n model) {
			after++
			if _, known := seen[n]; !known {
				seen[n] = from{m, step}
				queue = append(queue, n)
			}
		})
		if wrong = m.check(after == 0); wrong != "" {
			for at := m; at != first; at = seen[at].model {
				trace = append([]string{seen[at].step}, trace...)
			}
			return len(seen), wrong, trace
		}
	}
	return len(seen), "", nil
}

func TestModelOfMoves(t *testing.T) {
	for _, in := range []world{{}, {turns: true}, {lossy: true, turns: true}} {
		states, wrong, trace := explore(sound, in)
		if wrong != "" {
			t.Errorf("%+v: %s: %q", in, wrong, trace)
		}
		t.Logf("%+v: %d states", in, states)
	}
}

// TestModelFindsMistakes takes the protocol's parts away, one by one.
func TestModelFindsMistakes(t *testing.T) {
	for bug, name := range map[broken]string{
		noHold:            "the new owner does not hold packets",
		noCount:           "the old owner does not wait for packets that were sent",
		noDrain:           "the old owner does not wait until its packets have left",
		tellLate:          "the new owner learns of it after the exchange",
		forceWithoutGrace: "the old owner gives up without a grace period",
		keepQueue:         "the old owner leaves packets queued when the flow goes",
		lateQueue:         "the old owner takes packets out of the queue when the others have left",
	} {
		states, wrong, trace := explore(bug, world{lossy: bug == forceWithoutGrace, turns: bug == keepQueue || bug == lateQueue})
		if wrong == "" {
			t.Errorf("%s: %d states, and nothing wrong", name, states)
		}
		t.Logf("%s: %s after %q", name, wrong, trace)
	}
}
