package chains

import (
	"fmt"
	"path/filepath"
	"strings"
	"time"
)

const (
	apiVersion = "sfc/v1"
	kindChain  = "Chain"
)

// Parse reads the chain in data. The file's name stands for it in errors, and
// paths in it are relative to its folder; Parse itself reads no file. A
// function whose configuration lies in a file of its own has a nil Config,
// see [Load].
//
// Decoding is strict: whatever is unknown, given twice, of the wrong type or
// out of range is an error. The error is a [Problems] with everything found.
func Parse(file string, data []byte) (Spec, error) {
	root, problems := parseTree(file, data)
	if len(problems) > 0 {
		return Spec{}, problems.err()
	}
	d := &decoder{file: file, dir: filepath.Dir(file)}
	spec := d.spec(root)
	if err := d.problems.err(); err != nil {
		return Spec{}, err
	}
	return spec, nil
}

func (d *decoder) spec(root *value) Spec {
	s := Spec{Budget: DefaultBudget, Flows: DefaultFlows}
	d.object(root, "", []field{
		{"apiVersion", required, func(v *value, path string) { d.constant(v, path, apiVersion) }},
		{"kind", required, func(v *value, path string) { d.constant(v, path, kindChain) }},
		{"metadata", required, func(v *value, path string) {
			d.object(v, path, []field{
				{"name", required, func(v *value, path string) { s.Name = d.label(v, path) }},
				{"tenant", required, func(v *value, path string) { s.Tenant = d.label(v, path) }},
			})
		}},
		{"spec", required, func(v *value, path string) {
			d.object(v, path, []field{
				{"priority", optional, func(v *value, path string) { s.Priority = d.integer(v, path, -MaxPriority, MaxPriority) }},
				{"match", optional, func(v *value, path string) {
					d.list(v, path, MaxMatches, func(v *value, path string) { s.Match = append(s.Match, d.match(v, path)) })
				}},
				{"functions", required, func(v *value, path string) { s.Functions = d.functions(v, path) }},
				{"egress", required, func(v *value, path string) { s.Egress = d.port(v, path) }},
				{"return", optional, func(v *value, path string) { s.Return = d.way(v, path, &s) }},
				{"addresses", optional, func(v *value, path string) { s.Addresses = d.addresses(v, path) }},
				{"budget", optional, func(v *value, path string) { s.Budget = d.duration(v, path, MinBudget, MaxBudget) }},
				{"flows", optional, func(v *value, path string) { s.Flows = d.integer(v, path, 1, MaxFlows) }},
				{"unmatched", optional, func(v *value, path string) {
					s.Unmatched = UnmatchedPass + Unmatched(d.oneOf(v, path, unmatchedNames[UnmatchedPass:]))
				}},
			})
		}},
	})
	return s
}

// functions reads the list of functions and checks that their names differ.
func (d *decoder) functions(v *value, path string) (list []FunctionSpec) {
	lines := map[string]int{}
	d.list(v, path, MaxFunctions, func(v *value, path string) {
		f := d.function(v, path)
		if first := lines[f.Name]; first > 0 && f.Name != "" {
			d.report(v, join(path, "name"), fmt.Sprintf("function %q is there already, in line %d", f.Name, first), "give this one a name of its own")
		}
		lines[f.Name] = v.line
		list = append(list, f)
	})
	return list
}

func (d *decoder) function(v *value, path string) FunctionSpec {
	var f FunctionSpec
	var config *value
	d.object(v, path, []field{
		{"name", optional, func(v *value, path string) { f.Name = d.label(v, path) }},
		{"module", required, func(v *value, path string) { f.Module = d.path(v, path) }},
		{"config", optional, func(v *value, path string) { config, f.Config = v, d.json(v, path) }},
		{"configFile", optional, func(v *value, path string) {
			f.ConfigFile = d.path(v, path)
			if config != nil {
				d.report(v, path, "config is given too", "keep one of config and configFile")
			}
		}},
		{"fault", optional, func(v *value, path string) { f.Fault = FaultPolicy(d.oneOf(v, path, faultNames)) }},
	})
	if f.Config == nil && f.ConfigFile == "" {
		f.Config = []byte("{}")
	}
	if f.Name == "" && f.Module != "" && v.field("name") == nil {
		base, _, _ := strings.Cut(filepath.Base(f.Module), "@") // of function@version
		f.Name = strings.TrimSuffix(base, filepath.Ext(base))
		if !isLabel(f.Name) {
			d.report(v.field("module"), join(path, "module"), fmt.Sprintf("function cannot be named %s after its module", quote(f.Name)), "give it a name: "+labelRule)
		}
	}
	return f
}

// path reads a path; a relative one starts at the chain file's folder.
func (d *decoder) path(v *value, path string) string {
	s, ok := d.text(v, path)
	switch {
	case !ok:
		return ""
	case s == "" || len(s) > 4096 || strings.ContainsRune(s, 0):
		d.report(v, path, fmt.Sprintf("%s is not a path", quote(s)), "give the path of a file, relative to this file's folder")
		return ""
	case filepath.IsAbs(s):
		return filepath.Clean(s)
	}
	return filepath.Join(d.dir, s)
}

func (d *decoder) duration(v *value, path string, lo, hi time.Duration) time.Duration {
	cure := fmt.Sprintf("give a duration between %v and %v, such as 1ms or 500us", lo, hi)
	if v.kind == kindInt || v.kind == kindFloat {
		d.report(v, path, fmt.Sprintf("%s has no unit", v.text), cure)
		return 0
	}
	s, ok := d.text(v, path)
	if !ok {
		return 0
	}
	t, err := time.ParseDuration(s)
	switch {
	case err != nil:
		d.report(v, path, fmt.Sprintf("%s is not a duration", quote(s)), cure)
	case t < lo || t > hi:
		d.report(v, path, fmt.Sprintf("%v is out of range", t), cure)
	}
	return t
}
