package bpf

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sfc/dataplane/classify"
	"sfc/dataplane/packet"
)

// XDP actions.
const (
	xdpDrop     = 1
	xdpPass     = 2
	xdpRedirect = 4
)

// outcome names the one counter (or, of unclaimed frames, two) that a frame
// added to.
func outcome(tb testing.TB, before, after Counters) string {
	tb.Helper()
	if n := after.Frames() - before.Frames(); n != 1 {
		tb.Fatalf("one frame counted %d times", n)
	}
	name := ""
	for _, c := range []struct {
		name string
		n    uint64
	}{
		{"redirected", after.Redirected - before.Redirected},
		{"passed", after.Passed - before.Passed},
		{"forwarded", after.Forwarded - before.Forwarded},
		{"no_path", after.NoPath - before.NoPath},
		{"too_long", after.TooLong - before.TooLong},
		{"malformed", after.Malformed - before.Malformed},
		{"ext_headers", after.ExtHeaders - before.ExtHeaders},
		{"no_socket", after.NoSocket - before.NoSocket},
		{"no_pair", after.NoPair - before.NoPair},
		{"no_meta", after.NoMeta - before.NoMeta},
		{" not_ip", after.NotIP - before.NotIP},
		{" nd", after.NeighbourDiscovery - before.NeighbourDiscovery},
		{" unmatched", after.Unmatched - before.Unmatched},
	} {
		if c.n == 1 {
			name += c.name
		}
	}
	return name
}

// counters reads port 0's.
func counters(tb testing.TB, s *Steering, port int) Counters {
	tb.Helper()
	c, err := s.Counters(port)
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

// expected is what the Go mirror says of a frame at port 0 with policy pass, in
// the words of outcome.
func expected(table *classify.Table, frame []byte) (name string, action uint32, d classify.Decision) {
	d = table.Steer(0, classify.Pass, frame)
	switch d.Action {
	case classify.Claim:
		return "redirected", xdpRedirect, d
	case classify.DropFrame:
		return d.Reason.String(), xdpDrop, d
	}
	switch d.Result {
	case packet.NotIP:
		return "passed not_ip", xdpPass, d
	case packet.NeighbourDiscovery:
		return "passed nd", xdpPass, d
	}
	return "passed unmatched", xdpPass, d
}

// agree runs a frame through both implementations and fails tb when they
// differ. It returns the outcome and the metadata.
func agree(tb testing.TB, s *Steering, table *classify.Table, frame []byte) (string, *packet.Meta) {
	tb.Helper()
	return agreeOn(tb, s, table, s.placing(nil), frame)
}

// agreeOn is agree with what is known of owners.
func agreeOn(tb testing.TB, s *Steering, table *classify.Table, placing *classify.Placing, frame []byte) (string, *packet.Meta) {
	tb.Helper()
	before := counters(tb, s, 0)
	seq, err := s.Seq(0)
	if err != nil {
		tb.Fatal(err)
	}
	action, meta, out := run(tb, s, 0, frame)
	got := outcome(tb, before, counters(tb, s, 0))
	want, wantAction, d := expected(table, frame)
	if got != want || action != wantAction {
		tb.Fatalf("kernel: %s (action %d); Go: %s (action %d)\n%x", got, action, want, wantAction, frame)
	}
	if !bytes.Equal(out, frame) {
		tb.Fatalf("the frame was changed to\n%x, was\n%x", out, frame)
	}
	if next, _ := s.Seq(0); next != seq+1 {
		tb.Fatalf("sequence number went from %d to %d", seq, next)
	}
	if (meta != nil) != (d.Action == classify.Claim) {
		tb.Fatalf("%s: metadata %+v", got, meta)
	}
	if meta == nil {
		return got, nil
	}
	if meta.RxNs == 0 {
		tb.Fatal("no time of arrival")
	}
	m := packet.Meta{
		RxNs: meta.RxNs, Seq: seq, Hash: packet.FlowHash(testKey, &d.Info), Path: d.Path,
		L3: d.Info.L3, L4: d.Info.L4, Flags: d.Info.Flags, Proto: d.Info.Proto,
		Version: packet.MetaVersion, VLAN: d.Info.VLAN, Bucket: placing.Place(d.Path, &d.Info).Bucket,
	}
	if *meta != m {
		tb.Fatalf("kernel and Go differ:\n%s\n%x", cmp.Diff(m, *meta, cmp.AllowUnexported(m)), frame)
	}
	return got, meta
}

func TestFixtures(t *testing.T) {
	needKernel(t)
	table := compile(t, fixtureRules)
	s := onePort(t, table)
	if n := len(fixtures); n < 60 {
		t.Errorf("%d fixtures", n)
	}
	for _, f := range fixtures {
		t.Run(f.name, func(t *testing.T) {
			got, meta := agree(t, s, table, f.in)
			if got != f.want {
				t.Fatalf("%s, want %s", got, f.want)
			}
			if meta == nil {
				return
			}
			if m := (wantMeta{meta.Path, meta.L3, meta.L4, meta.Flags, meta.VLAN, meta.Proto}); m != f.meta {
				t.Errorf("metadata %+v, want %+v", m, f.meta)
			}
		})
	}
}
