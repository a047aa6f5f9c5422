package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"sfc/chains"
	"sfc/ctrl/agent"
	"sfc/nf"
)

func newChain(e env) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "chain",
		Short:   "Check chain files, and run chains on a daemon",
		Example: "  sfcctl chain validate edge.yaml\n  sfcctl chain create -f edge.yaml",
	}
	cmd.AddCommand(
		newChainValidate(e), newChainCreate(e), newChainUpdate(e), newChainGet(e), newChainDescribe(e), newChainList(e),
		newChainDelete(e), newChainDrain(e),
	)
	return cmd
}

func newChainValidate(e env) *cobra.Command {
	var v validation
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "validate FILE...",
		Short: "Check chain files, their modules and configurations",
		Long: `Checks chain files as a data plane would before it takes them: every field, the
modules the functions name, their configurations against the modules' schemas
and by giving them to the functions, and, with several files, that no two chains
claim the same packets at the same priority. Warnings name what is allowed but
hardly meant, such as a function that needs both directions in a chain without a
return; they do not make a file invalid.

A data plane has the ports given with --ports. Without it, the ports that the
files name are taken to exist.

Exit status: 0 when everything is valid, 1 when not, 2 for a wrong command line.`,
		Example: `  sfcctl chain validate edge.yaml
  sfcctl chain validate --ports in,out *.yaml
  sfcctl chain validate --json edge.yaml`,
		Args:              needArgs(1, -1, "one or more chain files"),
		ValidArgsFunction: completeFiles("yaml", "yml"),
		RunE: func(_ *cobra.Command, files []string) error {
			v.run(files)
			if asJSON {
				if err := printJSON(e.stdout, v.report); err != nil {
					return err
				}
				if n := len(v.report.Problems); n > 0 {
					return fmt.Errorf("%s in %s", plural(n, "problem"), plural(len(files), "file"))
				}
				return nil
			}
			v.print(e.stdout)
			return errors.Join(v.errs...)
		},
	}
	cmd.Flags().StringSliceVar(&v.ports, "ports", nil, "names of the data plane's ports (default: those the files name)")
	cmd.Flags().BoolVar(&v.noModules, "no-modules", false, "do not read the modules")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the result as JSON")
	return cmd
}

// validation checks chain files and keeps what it found.
type validation struct {
	ports     []string
	noModules bool

	specs  []chains.Spec
	plan   *chains.Plan // nil when something is wrong
	errs   []error
	report validationReport
}

// validationReport is the JSON form.
type validationReport struct {
	Valid    bool            `json:"valid"`
	Chains   []chainReport   `json:"chains"`
	Ports    []portReport    `json:"ports"`
	Warnings []string        `json:"warnings"`
	Problems []problemReport `json:"problems"`
}

type chainReport struct {
	File      string           `json:"file"`
	Tenant    string           `json:"tenant"`
	Name      string           `json:"name"`
	Priority  int              `json:"priority"`
	Matches   int              `json:"matches"`
	Functions []functionReport `json:"functions"`
	Egress    string           `json:"egress"`
	Return    *returnReport    `json:"return,omitempty"`
	BudgetNs  int64            `json:"budget_ns"`
}

// returnReport is the way back of a chain, once it has been compiled.
type returnReport struct {
	Functions []string `json:"functions"`
	Matches   int      `json:"matches"`
	Egress    string   `json:"egress"`
}

type functionReport struct {
	Name        string `json:"name"`
	Module      string `json:"module"`
	Version     string `json:"version,omitempty"`
	ConfigBytes int    `json:"config_bytes"`
	Fault       string `json:"fault"`
}

type portReport struct {
	Name      string `json:"name"`
	Memory    string `json:"memory"`
	Unmatched string `json:"unmatched"`
	Forward   string `json:"forward,omitempty"`
}

type problemReport struct {
	File    string `json:"file,omitempty"`
	Line    int    `json:"line,omitempty"`
	Column  int    `json:"column,omitempty"`
	Field   string `json:"field,omitempty"`
	Cure    string `json:"cure,omitempty"`
	Message string `json:"message"`
}

func (v *validation) run(files []string) {
	v.report = validationReport{Chains: []chainReport{}, Ports: []portReport{}, Warnings: []string{}, Problems: []problemReport{}}
	for _, file := range files {
		spec, err := chains.Load(file)
		if err != nil {
			v.errs = append(v.errs, err)
			continue
		}
		v.specs = append(v.specs, spec)
		v.report.Chains = append(v.report.Chains, reportChain(file, &spec))
	}
	v.check()
	v.report.Valid = len(v.errs) == 0
	for _, err := range flatten(v.errs) {
		v.report.Problems = append(v.report.Problems, reportProblem(err))
	}
}

// check loads the modules and compiles all specs together.
func (v *validation) check() {
	if len(v.errs) > 0 || len(v.specs) == 0 {
		return // a file that cannot be read says enough
	}
	var modules chains.ModuleSet
	if !v.noModules {
		var err error
		if modules, err = chains.LoadModules(v.specs, nf.Limits{}); err != nil {
			v.errs = append(v.errs, err)
			return
		}
		for i := range v.specs {
			for j, f := range v.specs[i].Functions {
				v.report.Chains[i].Functions[j].Version = modules[f.Module].Manifest.Version
			}
		}
	}
	ports := v.ports
	if ports == nil {
		ports = portsOf(v.specs)
	}
	plan, err := chains.Compile(v.specs, ports, modules)
	if err != nil {
		v.errs = append(v.errs, err)
		return
	}
	if !v.noModules {
		if err := agent.TryOut(v.specs, ports); err != nil {
			v.errs = append(v.errs, err)
			return
		}
	}
	v.plan = plan
	v.report.Warnings = append(v.report.Warnings, plan.Warnings...)
	for i := range plan.Paths {
		if p := &plan.Paths[i]; p.Return {
			v.report.Chains[p.Chain].Return = reportReturn(plan, p)
		}
	}
	for _, p := range plan.Ports {
		r := portReport{Name: p.Name, Memory: p.Memory.String(), Unmatched: p.Unmatched.String()}
		if p.Forward >= 0 {
			r.Forward = plan.Ports[p.Forward].Name
		}
		v.report.Ports = append(v.report.Ports, r)
	}
}

// portsOf returns the ports that specs name, in order of appearance. A chain
// that takes packets from every port but its egress needs another one: where
// no chain names one, it is called "in".
func portsOf(specs []chains.Spec) (ports []string) {
	add := func(name string) {
		if name != "" && !slices.Contains(ports, name) {
			ports = append(ports, name)
		}
	}
	for _, s := range specs {
		for _, m := range s.Match {
			add(m.Port)
		}
		add(s.Egress)
		if s.Return != nil {
			for _, m := range s.Return.Match {
				add(m.Port)
			}
			add(s.Return.Egress)
		}
	}
	if len(ports) == 1 {
		add("in")
		add("out") // when the only port is called "in"
	}
	return ports
}

// print writes what is known of each chain that is valid, then the warnings.
func (v *validation) print(w io.Writer) {
	if v.plan == nil {
		return
	}
	for i, c := range v.report.Chains {
		p := &v.plan.Chains[i]
		fmt.Fprintf(w, "%s: chain %s is valid: %s, egress %s, budget %v\n",
			c.File, p.Title(), plural(len(p.Functions), "function"), c.Egress, p.Budget)
		for _, f := range c.Functions {
			fmt.Fprintf(w, "  %s %s, fault %s, %s of configuration\n", f.Name, f.Version, f.Fault, plural(f.ConfigBytes, "byte"))
		}
		if r := c.Return; r != nil {
			through := strings.Join(r.Functions, ", ")
			if through == "" {
				through = "no function"
			}
			fmt.Fprintf(w, "  return through %s, egress %s\n", through, r.Egress)
		}
	}
	for _, warning := range v.report.Warnings {
		fmt.Fprintf(w, "warning: %s\n", warning)
	}
}

func reportReturn(plan *chains.Plan, p *chains.Path) *returnReport {
	r := &returnReport{Functions: []string{}, Egress: plan.Ports[p.Egress].Name}
	for _, i := range p.Order {
		r.Functions = append(r.Functions, plan.Chains[p.Chain].Functions[i].Name)
	}
	for _, rule := range plan.Rules {
		if rule.Path == p.Index {
			r.Matches++
		}
	}
	return r
}

func reportChain(file string, s *chains.Spec) chainReport {
	r := chainReport{
		File: file, Tenant: s.Tenant, Name: s.Name, Priority: s.Priority, Matches: len(s.Match),
		Functions: []functionReport{}, Egress: s.Egress, BudgetNs: s.Budget.Nanoseconds(),
	}
	for _, f := range s.Functions {
		r.Functions = append(r.Functions, functionReport{Name: f.Name, Module: f.Module, ConfigBytes: len(f.Config), Fault: f.Fault.String()})
	}
	return r
}

func reportProblem(err error) problemReport {
	r := problemReport{Message: err.Error()}
	if p := (*chains.Problem)(nil); errors.As(err, &p) {
		r.File, r.Line, r.Column, r.Field, r.Cure = p.File, p.Line, p.Column, p.Field, p.Cure
	}
	return r
}

// flatten takes joined errors apart.
func flatten(errs []error) (flat []error) {
	for _, err := range errs {
		if joined, ok := err.(interface{ Unwrap() []error }); ok {
			flat = append(flat, flatten(joined.Unwrap())...)
			continue
		}
		flat = append(flat, err)
	}
	return flat
}
