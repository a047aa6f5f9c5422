package scenario

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bytecodealliance/wasmtime-go/v39"
	"golang.org/x/tools/txtar"

	"sfc/testbed/capture"
	"sfc/testbed/gate"
	"sfc/testbed/replay"
)

func TestMain(m *testing.M) { os.Exit(gate.Main(m)) }

// scenario is one file of testdata.
type scenario struct {
	chains []string // chain files, written to a folder of the test's own
	in     []timed
	opts   options

	wantOut    []timed
	wantReport map[string]any
}

// options is the file options.json of a scenario.
type options struct {
	// Rate is the packets per second of a live run; 0 sends as fast as they
	// are taken. Burst is the most packets per burst of an offline run.
	Rate, Burst int
}

func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scenarios found: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			gate.Leaks(t)
			s := load(t, file)
			t.Run("offline", func(t *testing.T) { s.run(t, true) })
			t.Run("live", func(t *testing.T) {
				gate.Root(t)
				s.run(t, false)
			})
		})
	}
}

// load reads a scenario and writes its chains and modules to a folder.
func load(t *testing.T, file string) *scenario {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	linkCatalog(t, dir)
	s, err := parse(dir, text)
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return s
}

// linkCatalog makes the catalogue's modules known in dir as NAME.wasm.
func linkCatalog(t *testing.T, dir string) {
	t.Helper()
	modules, err := filepath.Glob("../../nf/catalog/*/*.wasm")
	if err != nil || len(modules) == 0 {
		t.Fatalf("no modules in the catalogue: %v", err)
	}
	for _, m := range modules {
		m, err := filepath.Abs(m)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(m, filepath.Join(dir, filepath.Base(m))); err != nil {
			t.Fatal(err)
		}
	}
}

// parse reads a scenario's parts; every part must be known, and none missing.
func parse(dir string, text []byte) (*scenario, error) {
	a := txtar.Parse(text)
	if len(bytes.TrimSpace(a.Comment)) == 0 {
		return nil, fmt.Errorf("the text on top that says what is shown is missing")
	}
	s := &scenario{}
	seen := map[string]bool{}
	for _, f := range a.Files {
		if seen[f.Name] {
			return nil, fmt.Errorf("part %s is there twice", f.Name)
		}
		seen[f.Name] = true
		if err := s.part(dir, f); err != nil {
			return nil, fmt.Errorf("part %s: %w", f.Name, err)
		}
	}
	for _, name := range []string{"in", "want.out", "want.json"} {
		if !seen[name] {
			return nil, fmt.Errorf("part %s is missing", name)
		}
	}
	if len(s.chains) == 0 {
		return nil, fmt.Errorf("part chain.yaml is missing")
	}
	slices.Sort(s.chains)
	return s, nil
}

func (s *scenario) part(dir string, f txtar.File) (err error) {
	base, isChain := strings.CutSuffix(f.Name, ".yaml")
	module, isModule := strings.CutSuffix(f.Name, ".wat")
	switch {
	case f.Name == "in":
		s.in, err = parsePackets(f.Name, f.Data)
		if i := slices.IndexFunc(s.in, func(p timed) bool { return p.port != "" }); i >= 0 {
			err = fmt.Errorf("packet %d: the ports that packets go into follow from who began their flow", i+1)
		}
	case f.Name == "want.out":
		s.wantOut, err = parsePackets(f.Name, f.Data)
	case f.Name == "want.json":
		if s.wantReport, err = parseReport(f.Data); err == nil {
			err = checkWant(s.wantReport)
		}
	case f.Name == "options.json":
		dec := json.NewDecoder(bytes.NewReader(f.Data))
		dec.DisallowUnknownFields()
		err = dec.Decode(&s.opts)
	case isChain && strings.HasPrefix(base, "chain"):
		path := filepath.Join(dir, f.Name)
		s.chains = append(s.chains, path)
		err = os.WriteFile(path, f.Data, 0o644)
	case isModule:
		var wasm []byte
		if wasm, err = wasmtime.Wat2Wasm(string(f.Data)); err == nil {
			err = os.WriteFile(filepath.Join(dir, module+".wasm"), wasm, 0o644)
		}
	default:
		err = fmt.Errorf("not a part of a scenario: see testdata/README.md")
	}
	return err
}

// What becomes of a packet does not hang on which packets share its burst, even
// when hours pass within one.
func TestFlowStateInAnyBursts(t *testing.T) {
	for burst := 1; burst <= 12; burst++ {
		t.Run(fmt.Sprint(burst), func(t *testing.T) {
			s := load(t, "testdata/flow_state.txtar")
			s.opts.Burst = burst
			s.run(t, true)
		})
	}
}

// begin is when scenarios begin, for time stamps in captures.
var begin = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// run replays the scenario and compares.
func (s *scenario) run(t *testing.T, offline bool) {
	dir := t.TempDir()
	opts := replay.Options{
		Chains: s.chains, In: filepath.Join(dir, "in.pcapng"), Out: filepath.Join(dir, "out.pcapng"),
		Offline: offline, Rate: s.opts.Rate, Burst: s.opts.Burst,
	}
	if err := writeCapture(opts.In, s.in); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	rep, err := replay.Run(ctx, opts)
	if err != nil {
		t.Fatal(err)
	}
	out, err := capture.ReadFile(opts.Out)
	if err != nil {
		t.Fatal(err)
	}
	for _, complaint := range diffPackets(out, s.wantOut) {
		t.Error(complaint)
	}
	complaints, err := diffReport(rep, s.wantReport)
	if err != nil {
		t.Fatal(err)
	}
	for _, complaint := range complaints {
		t.Error("want.json: " + complaint)
	}
}

func writeCapture(path string, packets []timed) error {
	w, err := capture.Create(path)
	if err != nil {
		return err
	}
	for _, p := range packets {
		if err := w.Write(begin.Add(p.at).UnixNano(), p.frame, len(p.frame), ""); err != nil {
			w.Close()
			return err
		}
	}
	return w.Close()
}
