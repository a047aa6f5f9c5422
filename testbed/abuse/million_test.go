package abuse

import (
	"bufio"
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"testing"
)

// million is how many flows there are at a time.
const million = 1_000_000

// targetMiB is the memory that a million flows of the chain may take.
const targetMiB = 512

// memoryOf returns the process's memory in bytes, pages that are mapped several
// times counted once, and without what Go has for itself when it can help it.
func memoryOf(tb testing.TB) int {
	tb.Helper()
	debug.FreeOSMemory()
	f, err := os.Open("/proc/self/smaps_rollup")
	check(tb, err)
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if rest, ok := strings.CutPrefix(s.Text(), "Pss:"); ok {
			kb := 0
			_, err := fmt.Sscanf(strings.TrimSpace(rest), "%d", &kb)
			check(tb, err)
			return kb << 10
		}
	}
	tb.Fatal("smaps_rollup has no Pss")
	return 0
}

// TestMillionFlows has a million flows at a time go through firewall, address
// translation, limit and statistics; each is answered, and each finds its state
// again.
func TestMillionFlows(t *testing.T) {
	if testing.Short() {
		t.Skip("takes some seconds and 600 MiB")
	}
	outside := make([]uint64, million)
	wrong := make([]uint8, million)
	for i := range outside { // so that their pages are there
		outside[i], wrong[i] = 0, 0
	}
	b := newBed(t, bedOptions{chain: stateful(t, million+64), packets: 3*million + 100, measure: true})
	b.seen = func(ref uint32, _ kind, port uint16, frame []byte) {
		src, dst := ends(frame)
		switch {
		case port == portIn && dst != clientOf(ref):
			wrong[ref]++
		case port == portOut && outside[ref] == 0:
			outside[ref] = pack(src)
		case port == portOut && outside[ref] != pack(src):
			wrong[ref]++
		}
	}
	empty := memoryOf(t)
	var buf [maxData]byte
	server := end{198<<24 | 51<<16 | 100<<8 | 1, 53}
	forward := func() {
		for i := range uint32(million) {
			b.offer(portIn, udpFrame(buf[:], clientOf(i), server, payload), talk, i)
		}
	}
	forward()
	created := b.cost()
	for i := range uint32(million) {
		if outside[i] != 0 {
			b.offer(portOut, udpFrame(buf[:], server, unpack(outside[i]), payload), talk, i)
		}
	}
	answered := b.cost()
	forward()
	again := b.cost()
	a, s, used := b.account(talk, 0), flowsOf(b.e), (memoryOf(t)-b.base)>>20
	t.Logf("a flow's first packet takes %.0f ns, its answer %.0f, its next packet %.0f", created, answered, again)
	t.Logf("%v; flows: %+v", a, s)
	t.Logf("memory: %d MiB with all flows, %d MiB with none, target %d MiB", used, (empty-b.base)>>20, targetMiB)
	if s.live != million || s.evicted+s.refused+s.expired != 0 || a.received != 3*million {
		t.Errorf("not every one of %d flows was there all the time, or answered", million)
	}
	for i, n := range wrong {
		if n != 0 {
			t.Fatalf("flow %d: %d packets went to or came from somebody else", i, n)
		}
	}
	if used > targetMiB {
		t.Errorf("%d MiB, want at most %d", used, targetMiB)
	}
}

// clientOf is the end of a client, each of which has one flow.
func clientOf(i uint32) end { return end{10<<24 | i>>4, uint16(10000 + i&15)} }
