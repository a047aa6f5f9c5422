package record

import (
	"fmt"
	"slices"
	"time"

	"sfc/testbed/capture"
	"sfc/testbed/netns"
	"sfc/testbed/trafgen"
)

// tap keeps every frame that crosses a link, both ways.
type tap struct {
	socket  *trafgen.Tap
	link    string
	packets []capture.Packet
	err     error
	quit    chan struct{}
	done    chan struct{}
}

// tapTurn is how long the tap sleeps before it looks whether to stop.
const tapTurn = 20 * time.Millisecond

// openTap starts to record on a link.
func openTap(link *netns.Link) (_ *tap, err error) {
	t := &tap{link: link.Name, quit: make(chan struct{}), done: make(chan struct{})}
	err = link.NS.Do(func() error {
		t.socket, err = trafgen.OpenTap(link.Name)
		return err
	})
	if err != nil {
		return nil, err
	}
	go t.run()
	return t, nil
}

// run takes frames in until quit is closed and none is left.
func (t *tap) run() {
	defer close(t.done)
	for {
		f, ok, err := t.socket.Next(tapTurn)
		switch {
		case err != nil:
			t.err = err
			return
		case ok:
			t.packets = append(t.packets, capture.Packet{TimeNs: f.TimeNs, Data: slices.Clone(f.Data), OrigLen: f.Len})
			continue
		}
		select {
		case <-t.quit:
			return
		default:
		}
	}
}

// stop ends the recording and returns the packets in order of time. A frame
// that the tap missed is an error: the recording would not be whole.
func (t *tap) stop() ([]capture.Packet, error) {
	time.Sleep(2 * tapTurn) // the last acknowledgements are under way
	t.end()
	if t.err != nil {
		return nil, t.err
	}
	missed, err := t.socket.Dropped()
	if err != nil {
		return nil, err
	}
	if missed > 0 {
		return nil, fmt.Errorf("record on %s: %d frames came faster than they could be taken in; try again when the machine is less busy",
			t.link, missed)
	}
	slices.SortStableFunc(t.packets, func(a, b capture.Packet) int { return int(a.TimeNs - b.TimeNs) })
	return t.packets, nil
}

// end stops the goroutine; again does nothing.
func (t *tap) end() {
	select {
	case <-t.quit:
	default:
		close(t.quit)
	}
	<-t.done
}

func (t *tap) close() error {
	t.end()
	return t.socket.Close()
}
