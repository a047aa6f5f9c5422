package agent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sfc/chains"
	"sfc/dataplane"
	"sfc/dataplane/packet"
	"sfc/dataplane/steer"
	"sfc/nf/wasm"
	"sfc/testbed/gate"
)

func TestMain(m *testing.M) { os.Exit(gate.Main(m)) }

var portNames = []string{"in", "out"}

const catalog = "../../nf/catalog/"

// specs reads a chain with these functions.
func specs(t *testing.T, functions string) []chains.Spec {
	t.Helper()
	dir, err := filepath.Abs(catalog)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "chain.yaml")
	text := "apiVersion: sfc/v1\nkind: Chain\nmetadata: {name: guard, tenant: test}\nspec:\n  match: [{port: in}]\n  egress: out\n  return: mirrored\n  flows: 4096\n  functions:\n" +
		strings.ReplaceAll(functions, "CATALOG", dir)
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	list, err := LoadSpecs([]string{file})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

const guard = `    - {module: CATALOG/firewall/firewall.wasm, config: {default: deny, rules: [{action: permit, src: 10.0.0.0/8}]}}
    - {module: CATALOG/flowstat/flowstat.wasm, config: {tcp_rtt: true}}
`

// memory is an engine of two workers on ports in memory, with flows of its own
// for each of them.
type memory struct {
	*Engine
	in, out []*dataplane.MemPort // by worker
}

// frames is how many each worker is offered, flows how many flows they are of.
const frames, flows = 2_000, 50

func openMemory(t *testing.T) *memory {
	t.Helper()
	e, err := Open(Options{Specs: specs(t, guard), Ports: portNames, Workers: 2, Cores: []int{-1, -1}})
	if err != nil {
		t.Fatal(err)
	}
	m := &memory{Engine: e}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	err = e.ConnectMemory(func(at Memory) []dataplane.Port {
		in := dataplane.NewMemPort(at.Region, at.Pool, templates(t, e, at.Worker), 0, frames)
		out := dataplane.NewMemPort(at.Region, at.Pool, nil, 0, 0)
		m.in, m.out = append(m.in, in), append(m.out, out)
		return []dataplane.Port{in, out}
	}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// templates are packets of flows whose buckets a worker owns in the beginning.
func templates(t *testing.T, e *Engine, worker int) (list []dataplane.Template) {
	t.Helper()
	now := dataplane.NewClock().Now()
	for port := 1024; len(list) < flows; port++ {
		f := make([]byte, 60)
		copy(f, "\x02\x00\x00\x00\x00\x02\x02\x00\x00\x00\x00\x01\x08\x00")
		copy(f[14:], "\x45\x00\x00\x2e\x00\x00\x40\x00\x40\x11\x00\x00\x0a\x00\x00\x01\x0a\x00\x00\x02")
		f[34], f[35], f[37], f[39] = byte(port>>8), byte(port), 9, 26
		packet.SetChecksums(f)
		d := e.Table().Steer(0, 0, f)
		hash := packet.FlowHash(e.HashKey(), &d.Info)
		if int(steer.Bucket(hash))%2 != worker {
			continue
		}
		list = append(list, dataplane.Template{Frame: f, Meta: packet.Meta{
			RxNs: now, Hash: hash, Path: d.Path, L3: d.Info.L3, L4: d.Info.L4, Flags: d.Info.Flags, Proto: d.Info.Proto,
			Version: packet.MetaVersion, Bucket: steer.Bucket(hash),
		}})
	}
	return list
}

// run starts the workers and waits until they have seen everything.
func (m *memory) run(t *testing.T) {
	t.Helper()
	if err := m.Start(); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		var sum uint64
		for _, c := range m.Workers() {
			sum += c.Received
		}
		if sum == 2*frames {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("the workers have seen %d of %d packets", sum, 2*frames)
		}
	}
}

// What several workers count and keep comes together.
func TestWorkersTogether(t *testing.T) {
	gate.Leaks(t)
	m := openMemory(t)
	m.run(t)
	stats := m.Stats()
	if len(stats) != 1 || stats[0].Name != "guard" || stats[0].Tenant != "test" || len(stats[0].Functions) != 2 {
		t.Fatalf("%+v", stats)
	}
	f := stats[0].Functions[0]
	if f.Name != "firewall" || f.Packets != 2*frames || f.Verdicts[packet.Next] != 2*frames || f.State != wasm.Running || f.Version == "" {
		t.Errorf("%+v", f)
	}
	if s := stats[0].Flows; s == nil || s.Live != 2*flows || s.Max != 2*4096 {
		t.Errorf("%+v", s)
	}
	if got := m.Owned(0); !slices.Equal(got, []int{512, 512}) {
		t.Errorf("owned: %v", got)
	}
	list := m.Flows(FlowFilter{Chain: -1, Bucket: -1, Limit: 1000})
	if len(list) != 2*flows {
		t.Errorf("%d flows", len(list))
	}
	seen := map[string]bool{}
	for _, f := range list {
		seen[fmt.Sprint(f.Tuple)] = true
		if f.Worker != int(f.Bucket)%2 || f.Chain != 0 || f.Idle < 0 || f.Idle > time.Minute || f.Tuple.Src.String() != "10.0.0.1" || f.Tuple.DstPort != 9 {
			t.Fatalf("%+v", f)
		}
	}
	if len(seen) != len(list) {
		t.Errorf("%d flows, %d different ones", len(list), len(seen))
	}
	if got := m.Flows(FlowFilter{Chain: 0, Bucket: -1, Limit: 7}); len(got) != 7 {
		t.Errorf("%d flows, want 7", len(got))
	}
	if got := m.Flows(FlowFilter{Chain: 0, Bucket: steer.Buckets, Limit: 7}); len(got) != 0 {
		t.Errorf("flows of a bucket that is not there: %+v", got)
	}
	one := list[len(list)-1]
	for _, f := range m.Flows(FlowFilter{Chain: 0, Bucket: int(one.Bucket), Limit: 1000}) {
		if f.Bucket != one.Bucket {
			t.Errorf("%+v is not of bucket %d", f, one.Bucket)
		}
	}
	busy, err := m.Busy()
	if err != nil || busy[0] <= 0 || busy[1] <= 0 {
		t.Errorf("busy %v, %v", busy, err)
	}
	if err := m.Disconnect(); err != nil {
		t.Fatal(err)
	}
	// The account stays.
	if after := m.Stats(); after[0].Functions[0].Packets != 2*frames || after[0].Flows.Live != 2*flows {
		t.Errorf("%+v", after)
	}
	sent := m.out[0].Transmitted + m.out[1].Transmitted
	if sent != 2*frames {
		t.Errorf("%d packets went out", sent)
	}
}

// A bucket of many flows is listed whole, in more than one look.
func TestFlowsOfOneBucket(t *testing.T) {
	gate.Leaks(t)
	m := openMemory(t)
	m.run(t)
	for _, f := range m.Flows(FlowFilter{Chain: -1, Bucket: -1, Limit: 1000}) {
		look := flowLook{table: m.workers[f.Worker].chains[0].flows, bucket: int(f.Bucket), end: int(f.Bucket) + 1, room: 1}
		var whole, pieces int
		for s := look.table.First(uint32(f.Bucket)); s != ^uint32(0); s = look.table.Next(s) {
			whole++
		}
		for look.bucket < look.end {
			m.workers[f.Worker].between(look.copy)
			pieces += len(look.found)
		}
		if pieces != whole {
			t.Errorf("bucket %d: %d flows in pieces, %d in one", f.Bucket, pieces, whole)
		}
	}
}

// A function is replaced on all workers, or on none.
func TestSwap(t *testing.T) {
	gate.Leaks(t)
	m := openMemory(t)
	if _, err := m.Swap(0, 0, SwapOptions{Module: catalog + "firewall/firewall.wasm"}); err == nil {
		t.Error("workers that do not run cannot take a new version")
	}
	m.run(t)
	for i, tt := range []struct {
		o     SwapOptions
		state string
		want  string
	}{
		{o: SwapOptions{}, want: "function firewall: nothing new"},
		{o: SwapOptions{Module: "no/such.wasm"}, want: "no/such.wasm"},
		{o: SwapOptions{Config: []byte(`{"default": "maybe"}`)}, want: "function firewall: "},
		{o: SwapOptions{Module: catalog + "dnsguard/dnsguard.wasm"}, want: "function firewall: "},
		{o: SwapOptions{Module: catalog + "firewall/firewall.wasm", Probation: time.Minute}, state: "kept"},
		{o: SwapOptions{Config: []byte(`{"default": "deny", "rules": []}`)}, want: "still on probation"},
	} {
		rep, err := m.Swap(0, 0, tt.o)
		switch {
		case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("%d: %v, want %q", i, err, tt.want)
		case tt.want == "" && err != nil:
			t.Errorf("%d: %v", i, err)
		case err == nil && (rep.State != tt.state || len(rep.Holds) != 2 || rep.From != rep.To):
			t.Errorf("%d: %+v", i, rep)
		}
	}
	if r := m.Functions(0)[0].Replacement; r == nil || r.Phase != wasm.Probation {
		t.Errorf("%+v", r)
	}
	// What is in force is what the next version gets.
	config := []byte(`{"default": "permit", "rules": []}`)
	rep, err := m.Swap(0, 0, SwapOptions{Config: config})
	if !errors.Is(err, wasm.ErrProbation) {
		t.Errorf("%+v, %v", rep, err)
	}
	if _, err := m.Swap(0, 1, SwapOptions{Config: []byte(`{"tcp_rtt": false}`), Probation: time.Minute}); err != nil {
		t.Error(err)
	}
	if got := string(m.configOf(0, 1)); got != `{"tcp_rtt": false}` {
		t.Errorf("configuration in force: %s", got)
	}
	if got := string(m.configOf(0, 0)); !strings.Contains(got, "10.0.0.0/8") {
		t.Errorf("configuration in force: %s", got)
	}
}

// A new version that faults on one worker goes back on all of them.
func TestSwapGoesBackEverywhere(t *testing.T) {
	gate.Leaks(t)
	m := openMemory(t)
	m.run(t)
	if _, err := m.Swap(0, 0, SwapOptions{Module: catalog + "firewall/firewall.wasm", Probation: time.Minute}); err != nil {
		t.Fatal(err)
	}
	if _, err := m.workers[1].run.Do(func() { _ = m.swaps.last[1].RollBack("it trapped") }); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		s := m.swaps.last[0].Status()
		if s.Phase == wasm.RolledBack && strings.Contains(s.Why, "worker 1: ") && strings.Contains(s.Why, "it trapped") {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("worker 0 has %+v", s)
		}
	}
}

func TestNames(t *testing.T) {
	gate.Leaks(t)
	one := specs(t, guard)
	two, three := one[0], one[0]
	two.Name, two.Match = "other", []chains.Match{{Port: "in", VLAN: 7, Protocol: 6}}
	three.Tenant, three.Match = "else", []chains.Match{{Port: "in", VLAN: 8, Protocol: 6}}
	for i := range one {
		one[i].Match = []chains.Match{{Port: "in", VLAN: 9, Protocol: 6}}
	}
	e, err := Open(Options{Specs: append(one, two, three), Ports: portNames})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	for name, want := range map[string]string{
		"other": "1", "test/other": "1", "test/guard": "0", "else/guard": "2",
		"":      "there are 3 chains: name one of test/guard, test/other, else/guard",
		"guard": "several tenants have a chain guard: say tenant/guard",
		"x":     `no chain "x"; there is test/guard, test/other, else/guard`,
	} {
		i, err := e.Chain(name)
		got := fmt.Sprint(i)
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("chain %q: %s, want %s", name, got, want)
		}
	}
	if i, err := e.Function(1, "flowstat"); i != 1 || err != nil {
		t.Errorf("%d, %v", i, err)
	}
	if _, err := e.Function(1, "x"); err == nil || !strings.Contains(err.Error(), `chain test/other has no function "x"; it has firewall, flowstat`) {
		t.Errorf("%v", err)
	}
}

func TestRefused(t *testing.T) {
	gate.Leaks(t)
	s := specs(t, guard)
	for want, o := range map[string]Options{
		"65 workers":               {Workers: 65},
		"1 cores for 2 workers":    {Workers: 2, Cores: []int{0}},
		"-1 workers":               {Workers: -1, Cores: []int{}},
		"65 queues":                {Queues: 65},
		`egress "out" is no port`:  {Ports: []string{"in", "up"}},
		"0 ports: want 1 to":       {Ports: []string{}},
		"at most 1000 are allowed": {},
	} {
		o.Specs = s
		if o.Ports == nil {
			o.Ports = portNames
		}
		if strings.HasPrefix(want, "at most") {
			o.Limits.ModuleBytes = 1000
			want = "longer than 1000 bytes"
		}
		if e, err := Open(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
			if e != nil {
				e.Close()
			}
		}
	}
	if err := TryOut(s, portNames); err != nil {
		t.Error(err)
	}
	// What only the function itself can judge.
	bad := specs(t, "    - {module: CATALOG/ratelimit/ratelimit.wasm, config: {rate: 1, unit: bps, burst: 1, max_sources: 5000000}}\n")
	if err := TryOut(bad, portNames); err == nil {
		t.Error("a configuration that the function refuses was tried out")
	}
	e, err := Open(Options{Specs: s, Ports: portNames})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if err := e.Start(); !errors.Is(err, ErrNotConnected) {
		t.Errorf("%v", err)
	}
	if _, err := e.Seq(0); !errors.Is(err, ErrNotConnected) {
		t.Errorf("%v", err)
	}
	if err := e.Connect([]Port{{Ifindex: 1}}); err == nil || !strings.Contains(err.Error(), "1 interfaces for 2 ports") {
		t.Errorf("%v", err)
	}
}
