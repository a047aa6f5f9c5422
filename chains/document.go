package chains

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path/filepath"
)

// Document returns a chain file as JSON, the form in which a daemon takes it:
// checked as by [Parse], every function with its name and its configuration,
// also when that lies in a file of its own. module says what a function's
// module is called there; it is given what the file says, and the path that it
// means if it is one.
func Document(file string, data []byte, module func(said, path string) (string, error)) ([]byte, error) {
	root, problems := parseTree(file, data)
	if len(problems) > 0 {
		return nil, problems.err()
	}
	d := &decoder{file: file, dir: filepath.Dir(file)}
	spec := d.spec(root)
	if err := d.problems.err(); err != nil {
		return nil, err
	}
	from := root.field("spec")
	functions, err := functionDocuments(file, &spec, from.field("functions"), module)
	if err != nil {
		return nil, err
	}
	out := map[string]json.RawMessage{}
	for _, f := range from.fields {
		var text bytes.Buffer
		switch {
		case f.name == "functions":
			text.Write(functions)
		case !d.writeJSON(&text, &f.value, join("spec", f.name)):
			return nil, d.problems.err()
		}
		out[f.name] = text.Bytes()
	}
	return json.Marshal(map[string]any{
		"apiVersion": apiVersion, "kind": kindChain, "spec": out,
		"metadata": map[string]string{"name": spec.Name, "tenant": spec.Tenant},
	})
}

// functionDocuments returns the functions of a file's document.
func functionDocuments(file string, spec *Spec, from *value, module func(said, path string) (string, error)) (json.RawMessage, error) {
	type function struct {
		Name   string          `json:"name"`
		Module string          `json:"module"`
		Config json.RawMessage `json:"config"`
		Fault  string          `json:"fault"`
	}
	list := make([]function, len(spec.Functions))
	for i, f := range spec.Functions {
		config := f.Config
		if f.ConfigFile != "" {
			var err error
			if config, err = LoadConfig(f.ConfigFile); err != nil {
				return nil, fmt.Errorf("%s: configuration of function %s: %w", file, f.Name, err)
			}
		}
		called, err := module(from.items[i].field("module").text, f.Module)
		if err != nil {
			return nil, fmt.Errorf("%s: function %s: %w", file, f.Name, err)
		}
		list[i] = function{f.Name, called, config, f.Fault.String()}
	}
	return json.Marshal(list)
}
