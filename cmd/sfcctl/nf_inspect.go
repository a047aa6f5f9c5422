package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"sfc/nf"
)

func newNFInspect(e env) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "inspect FILE",
		Short: "Show what a module is and whether it may be deployed",
		Long: `Shows a module's manifest, imports, exports, memory and tables, and makes the
checks that every module must pass before any of it runs.

Exit status: 0 when the module may be deployed, 1 when not.`,
		Example: `  sfcctl nf inspect acl.wasm
  sfcctl nf inspect --json acl.wasm`,
		Args:              needArgs(1, 1, "one module"),
		ValidArgsFunction: completeFiles("wasm"),
		RunE: func(_ *cobra.Command, args []string) error {
			r, err := inspect(args[0])
			if err != nil {
				return err
			}
			if asJSON {
				err = printJSON(e.stdout, r)
			} else {
				err = r.print(e.stdout)
			}
			if err == nil && len(r.Refusals) > 0 {
				err = fmt.Errorf("module %s may not be deployed: %s", args[0], plural(len(r.Refusals), "check")+" failed")
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the result as JSON")
	return cmd
}

// moduleReport is what inspect prints; JSON form.
type moduleReport struct {
	File     string          `json:"file"`
	Bytes    int             `json:"bytes"`
	Manifest *manifestReport `json:"manifest"` // null when there is no readable one
	Imports  []symbolReport  `json:"imports"`
	Exports  []symbolReport  `json:"exports"`
	Memories []rangeReport   `json:"memories"` // in pages of 64 KiB
	Tables   []rangeReport   `json:"tables"`   // in elements
	// Functions counts those the module defines.
	Functions    int      `json:"functions"`
	CodeBytes    int      `json:"code_bytes"`
	DataSegments int      `json:"data_segments"`
	StackBytes   uint32   `json:"stack_bytes"` // below the engine's window
	Refusals     []string `json:"refusals"`
}

type manifestReport struct {
	Name           string            `json:"name"`
	Version        string            `json:"version"`
	ABI            int               `json:"abi"`
	FlowStateBytes int               `json:"flow_state_bytes"`
	FlowStateWhen  map[string]string `json:"flow_state_when,omitempty"`
	BothDirections bool              `json:"both_directions"`
	Counters       []string          `json:"counters"`
	DropReasons    []string          `json:"drop_reasons"`
	Capabilities   []string          `json:"capabilities"`
	ConfigSchema   json.RawMessage   `json:"config_schema,omitempty"`
}

type symbolReport struct {
	Name string `json:"name"` // of an import: module.name
	Kind string `json:"kind"`
	Type string `json:"type,omitempty"` // of a function
}

type rangeReport struct {
	Min uint64  `json:"min"`
	Max *uint64 `json:"max"` // null when there is none
}

// maxModule bounds what inspect reads: more than may be deployed, so that a
// module that is too large is shown as such.
const maxModule = 64 << 20

// inspect reads the module at path. Reasons to refuse it are part of the
// report; only what is no readable module is an error.
func inspect(path string) (*moduleReport, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("read module: %w; give the path of a .wasm file", err)
	}
	if !st.Mode().IsRegular() || st.Size() > maxModule {
		return nil, fmt.Errorf("read module: %s is not a file of at most %d bytes; give the path of a .wasm file", path, maxModule)
	}
	wasm, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read module: %w", err)
	}
	m, err := nf.Inspect(wasm)
	if err != nil {
		return nil, fmt.Errorf("module %s: %w", path, err)
	}
	r := &moduleReport{
		File: path, Bytes: m.Size, Imports: []symbolReport{}, Exports: []symbolReport{},
		Memories: []rangeReport{}, Tables: []rangeReport{}, Refusals: []string{},
		Functions: m.Functions, CodeBytes: m.CodeBytes, DataSegments: len(m.Data), StackBytes: nf.StackTop(m),
	}
	for _, refusal := range nf.Refusals(nf.Check(m, nf.Limits{})) {
		r.Refusals = append(r.Refusals, refusal.Error())
	}
	// What is wrong with a manifest is among the refusals.
	if manifest, err := nf.ParseManifest(m.Manifest); err == nil {
		r.Manifest = reportManifest(manifest)
	}
	for _, i := range m.Imports {
		r.Imports = append(r.Imports, reportSymbol(i.Module+"."+i.Name, i.Kind, i.Func))
	}
	for _, x := range m.Exports {
		r.Exports = append(r.Exports, reportSymbol(x.Name, x.Kind, x.Func))
	}
	for _, mem := range m.Memories {
		r.Memories = append(r.Memories, reportRange(mem.Pages))
	}
	for _, t := range m.Tables {
		r.Tables = append(r.Tables, reportRange(t))
	}
	return r, nil
}

func reportManifest(m *nf.Manifest) *manifestReport {
	return &manifestReport{
		Name: m.Name, Version: m.Version, ABI: m.ABI, FlowStateBytes: m.FlowStateBytes, FlowStateWhen: m.FlowStateWhen, BothDirections: m.BothDirections,
		Counters: m.Counters, DropReasons: m.DropReasons, Capabilities: m.Capabilities, ConfigSchema: m.ConfigSchema,
	}
}

func reportSymbol(name string, kind nf.Kind, typ nf.FuncType) symbolReport {
	s := symbolReport{Name: name, Kind: kind.String()}
	if kind == nf.KindFunc {
		s.Type = typ.String()
	}
	return s
}

func reportRange(r nf.Range) rangeReport {
	if r.HasMax {
		return rangeReport{r.Min, &r.Max}
	}
	return rangeReport{r.Min, nil}
}

// print writes the report for people. Names come from the module, so what
// could drive a terminal is shown as an escape.
func (r *moduleReport) print(w io.Writer) error {
	var s strings.Builder
	fmt.Fprintf(&s, "%s: %s, %s of code in %s\n", r.File, plural(r.Bytes, "byte"), plural(r.CodeBytes, "byte"), plural(r.Functions, "function"))
	if m := r.Manifest; m != nil {
		fmt.Fprintf(&s, "manifest: %s %s, ABI %d\n", m.Name, m.Version, m.ABI)
		fmt.Fprintf(&s, "  state per flow: %s, both directions: %v\n", plural(m.FlowStateBytes, "byte"), m.BothDirections)
		fmt.Fprintf(&s, "  counters: %s\n", listOrNone(m.Counters))
		fmt.Fprintf(&s, "  drop reasons: %s\n", listOrNone(m.DropReasons))
		fmt.Fprintf(&s, "  capabilities: %s\n", listOrNone(m.Capabilities))
		fmt.Fprintf(&s, "  configuration: %s\n", schemaText(m.ConfigSchema))
	}
	printSymbols(&s, "imports", r.Imports)
	printSymbols(&s, "exports", r.Exports)
	for _, m := range r.Memories {
		fmt.Fprintf(&s, "memory: %s of 64 KiB\n", m.text("page"))
	}
	for _, t := range r.Tables {
		fmt.Fprintf(&s, "table: %s\n", t.text("element"))
	}
	fmt.Fprintf(&s, "stack below the window: %s; data segments: %d\n", plural(int(r.StackBytes), "byte"), r.DataSegments)
	if len(r.Refusals) == 0 {
		s.WriteString("checks: passed\n")
	} else {
		s.WriteString("checks: failed\n")
		for _, refusal := range r.Refusals {
			fmt.Fprintf(&s, "  %s\n", printable(refusal))
		}
	}
	if _, err := io.WriteString(w, s.String()); err != nil {
		return errors.Join(errors.New("write the report"), err)
	}
	return nil
}

func printSymbols(s *strings.Builder, title string, symbols []symbolReport) {
	if len(symbols) == 0 {
		fmt.Fprintf(s, "%s: none\n", title)
		return
	}
	fmt.Fprintf(s, "%s:\n", title)
	for _, x := range symbols {
		fmt.Fprintf(s, "  %s\n", strings.TrimSpace(fmt.Sprintf("%s %s %s", x.Kind, printable(x.Name), x.Type)))
	}
}

func (r rangeReport) text(unit string) string {
	if r.Max == nil {
		return fmt.Sprintf("from %s up", plural(int(r.Min), unit))
	}
	return fmt.Sprintf("%d to %s", r.Min, plural(int(*r.Max), unit))
}

func listOrNone(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

// schemaText lists the fields of a schema's top level; --json shows all of it.
func schemaText(schema json.RawMessage) string {
	if schema == nil {
		return "none"
	}
	var top struct {
		Properties map[string]json.RawMessage `json:"properties"`
	}
	if err := json.Unmarshal(schema, &top); err != nil || len(top.Properties) == 0 {
		return fmt.Sprintf("a schema of %s", plural(len(schema), "byte"))
	}
	return sortedKeys(top.Properties)
}
