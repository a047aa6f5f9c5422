package daemon

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"sfc/ctrl/api"
	"sfc/ctrl/client"
	"sfc/testbed/gate"
)

// Figures of the daemon for docs/benchmarks.md: `make bench-daemon` runs this on
// an idle machine. SFC_DAEMON is how often chains are made and modules uploaded.
func TestFigures(t *testing.T) {
	n, err := strconv.Atoi(os.Getenv("SFC_DAEMON"))
	if err != nil || n < 1 {
		t.Skip("set SFC_DAEMON to the number of chains made and modules uploaded, or run make bench-daemon")
	}
	gate.Root(t)
	fmt.Print("\n| what | target | measured |\n|---|---|---|\n")
	t.Run("create", func(t *testing.T) { createFigure(t, n) })
	t.Run("upload", func(t *testing.T) { uploadFigure(t, n) })
	t.Run("kill", killFigure)
	t.Run("share", shareFigure)
	t.Run("thousand", thousandFigure)
	t.Run("idle", idleFigure)
}

// figure prints a line of the table.
func figure(what, target, format string, args ...any) {
	fmt.Printf("| %s | %s | %s |\n", what, target, fmt.Sprintf(format, args...))
}

// times prints the median and the longest of some times.
func times(list []time.Duration) string {
	slices.Sort(list)
	ms := func(d time.Duration) string { return fmt.Sprintf("%.1f", d.Seconds()*1000) }
	return fmt.Sprintf("%s ms (median), %s ms (longest of %d)", ms(list[len(list)/2]), ms(list[len(list)-1]), len(list))
}

// often is how often datagrams look for a chain that is being made.
const often = 200 * time.Microsecond

// untilFirst does something that has a chain take the datagrams to a port, and
// returns how long it took for it to return, and for the first datagram to come
// through.
func (b *bed) untilFirst(port int, do func()) (returned, first time.Duration) {
	b.tb.Helper()
	p := newPulse(b.tb, b, port, often)
	defer p.close()
	time.Sleep(20 * time.Millisecond)
	if !p.first(time.Time{}).IsZero() {
		b.tb.Fatalf("datagrams to port %d come through before there is a chain", port)
	}
	start := time.Now()
	do()
	returned = time.Since(start)
	b.within(answerWait, "the first datagram", func(context.Context) error {
		at := p.first(time.Time{})
		if at.IsZero() {
			return errors.New("none came")
		}
		first = at.Sub(start)
		return nil
	})
	return returned, first
}

// portChain is a chain of the datagrams to a port.
func portChain(port int, functions ...api.ChainFunction) api.ChainSpec {
	return api.ChainSpec{
		Match:     []api.ChainMatch{{Port: "in", Family: "ipv4", Protocol: "udp", DstPorts: api.IntOrText(strconv.Itoa(port))}},
		Functions: append([]api.ChainFunction{}, functions...), Egress: "out", Return: &api.ChainReturn{Word: "mirrored"}, Flows: 10_000,
	}
}

// remove deletes a chain and waits until it is gone.
func (b *bed) remove(tenant, name string) {
	b.tb.Helper()
	check(b.tb, b.api.Chains(tenant).Delete(b.tb.Context(), name, ""))
	b.within(answerWait, "chain "+name+" is gone", func(ctx context.Context) error {
		s, err := b.api.Stats(ctx, tenant)
		if err == nil && slices.ContainsFunc(s.Chains, func(c api.ChainStats) bool { return c.Name == name }) {
			err = errors.New("it is there")
		}
		return err
	})
}

// guards are the functions of the stateful chain.
func guards() []api.ChainFunction { return guard().Functions }

// createFigure is how long a chain of stored functions takes to have its
// packets.
func createFigure(t *testing.T, n int) {
	b := newBed(t)
	b.tenant("acme", 500)
	b.upload("acme", "firewall", "1.0.0", module(t, "firewall"))
	b.upload("acme", "flowstat", "1.0.0", module(t, "flowstat"))
	b.attach(api.UnmatchedDrop)
	var returned, first []time.Duration
	for i := range n {
		r, f := b.untilFirst(10_000+i, func() { b.chain("acme", "edge", portChain(10_000+i, guards()...)) })
		returned, first = append(returned, r), append(first, f)
		b.remove("acme", "edge")
	}
	t.Logf("in order: %v", first)
	figure("a chain of firewall and flowstat, both stored: from the request to the first packet through it", "50 ms", "%s", times(first))
	figure("the same, to the API's answer", "", "%s", times(returned))
}

// uploadSize is how large the modules are that are uploaded, in bytes.
const uploadSize = 100 << 10

// padded returns a module with a custom section of random bytes, so that it has
// the size and is none that was there before.
func padded(tb testing.TB, module []byte, size int) []byte {
	tb.Helper()
	const head, name = 1 + 5 + 1, "padding"
	fill := size - len(module) - head - len(name)
	if fill < 1 {
		tb.Fatalf("a module of %d bytes cannot be padded to %d", len(module), size)
	}
	m := append(slices.Clip(module), 0) // custom section
	length := fill + 1 + len(name)
	for i := range 5 { // LEB128, at full length
		b := byte(length>>(7*i)) & 0x7f
		if i < 4 {
			b |= 0x80
		}
		m = append(m, b)
	}
	m = append(append(m, byte(len(name))), name...)
	random := make([]byte, fill)
	if _, err := rand.Read(random); err != nil {
		tb.Fatal(err)
	}
	return append(m, random...)
}

// uploadFigure is how long a module takes that nobody has seen before, until
// packets pass it.
func uploadFigure(t *testing.T, n int) {
	b := newBed(t)
	b.tenant("acme", 500)
	b.attach(api.UnmatchedDrop)
	firewall := module(t, "firewall")
	var stored, first []time.Duration
	for i := range n {
		m := padded(t, firewall, uploadSize)
		version := fmt.Sprintf("1.0.%d", i)
		function := guards()[0]
		function.Module = "firewall@" + version
		var up time.Duration
		_, f := b.untilFirst(20_000+i, func() {
			start := time.Now()
			_, err := b.api.Upload(t.Context(), "acme", client.Upload{Function: "firewall", Version: version, Module: bytes.NewReader(m), Size: int64(len(m))})
			check(t, err)
			up = time.Since(start)
			b.chain("acme", "edge", portChain(20_000+i, function))
		})
		stored, first = append(stored, up), append(first, f)
		b.remove("acme", "edge")
	}
	t.Logf("in order: %v", first)
	figure("a module of 100 KiB (firewall's 42 and padding): from its upload to the first packet through a chain of it", "200 ms", "%s", times(first))
	figure("the same, until it is stored", "", "%s", times(stored))
}

// killFigure is what deaths and replacements cost.
func killFigure(t *testing.T) {
	r := newRig(t)
	for _, d := range disturbances(r) {
		lost, gaps := r.disturb(d)
		figure(fmt.Sprintf("%s: longest time without one of 1,000 packets a second; lost in all", d.what), d.target, "%s; %d", times(gaps), lost)
	}
}
