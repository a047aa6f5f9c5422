package abuse

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"sfc/nf/build"
)

// slowModule builds the function that holds its worker up, and returns its file.
func slowModule(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	check(t, os.CopyFS(dir, os.DirFS("testdata/slow")))
	file, err := build.Build(dir)
	if errors.Is(err, build.ErrNoCompiler) {
		t.Skipf("the slow function is C: %v", err)
	}
	check(t, err)
	file, err = filepath.Abs(file)
	check(t, err)
	return file
}

// A function that takes its time: some 30 ms a burst, within its budget of
// 100 ms. And one that never comes back.
const (
	slowTurns = 50_000_000
	endless   = 0
)

// marked is where packets go that hold a worker up.
const marked = 6666

// sourceOf returns a UDP source whose flow to a port of the victim's address a
// worker has.
func (b *bed) sourceOf(worker int, dport uint16, rnd *rand.Rand) end {
	for {
		src := end{10<<24 | rnd.Uint32()>>8, uint16(rnd.Uint32())}
		var buf [maxData]byte
		d := b.e.Table().Steer(portIn, 0, udpFrame(buf[:], src, end{victim.addr, dport}, payload))
		if at := b.place.Place(d.Path, &d.Info); b.owners.Owner(at.Row, at.Bucket) == worker {
			return src
		}
	}
}

// of returns those connections of a crowd that a worker has.
func (c *crowd) of(worker int) *crowd {
	part := &crowd{b: c.b}
	for i := range c.conns {
		n := &c.conns[i]
		d := c.b.e.Table().Steer(portIn, 0, tcpFrame(c.buf[:], n.client, n.server, syn, 0, 0, 0))
		if at := c.b.place.Place(d.Path, &d.Info); c.b.owners.Owner(at.Row, at.Bucket) == worker {
			part.list = append(part.list, i)
		}
	}
	part.conns = c.conns
	return part
}

// TestStalledWorker holds one of two workers up with a function that is slow, or
// never ends: meanwhile everything arrives that the other one has.
func TestStalledWorker(t *testing.T) {
	slow := slowModule(t)
	for _, o := range []struct {
		name  string
		turns int
	}{{"slow", slowTurns}, {"endless", endless}} {
		t.Run(o.name, func(t *testing.T) {
			const most, least, held = 200_000, 2000, 1024
			b := newBed(t, bedOptions{workers: 2, packets: most + held + 10*crowdSize, chain: chainText(t, 16384,
				`firewall {default: permit}`, `flowstat {}`, fmt.Sprintf("%s {turns: %d}", slow, o.turns))})
			b.overflow = true
			rnd := rand.New(rand.NewPCG(15, 16))
			c := newCrowd(b, crowdSize)
			free := c.of(1)
			src := b.sourceOf(0, marked, rnd)
			var buf [maxData]byte
			var last uint32
			for range held {
				last = b.offer(portIn, udpFrame(buf[:], src, end{victim.addr, marked}, payload), attack, 0)
			}
			first, start, sent := b.offered, time.Now(), 0
			for ; sent < most; sent++ { // as much as goes through while the last one waits
				if _, through := b.fate(last); through {
					break
				}
				free.one()
			}
			took := time.Since(start)
			free.wait()
			t.Logf("%d packets of the other worker's %d connections in %v, while the stalled one had %d to do", sent, len(free.list), took, held)
			if a := b.account(talk, first); a.received != sent || sent < least {
				t.Errorf("%v; want all received, and at least %d while the other worker was stalled", a, least)
			}
			b.settle()
			t.Logf("the stalled worker's: %v after %v; %s", b.account(attack, 0), time.Since(start), b.e.Functions(0)[2].State)
			c.unharmed(o.name)
		})
	}
}
