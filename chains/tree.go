package chains

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Limits of a file's structure. With aliases a short file can describe a
// structure of any size: it is the expanded one that is counted.
const (
	maxNodes = 1 << 17
	maxDepth = 64
)

// kind is what a value is, as YAML's core schema resolves it.
type kind uint8

const (
	kindNull kind = iota
	kindBool
	kindInt
	kindFloat
	kindString
	kindList
	kindObject
)

var kindNames = [...]string{"empty", "a boolean", "an integer", "a number", "text", "a list", "an object"}

// value is a node of the file with aliases expanded. Every value has a
// position; every object has distinct, textual field names.
type value struct {
	line, column int
	kind         kind
	text         string // of a scalar, as written
	items        []value
	fields       []fieldValue
}

type fieldValue struct {
	name         string
	line, column int
	value
}

// treeBuilder turns YAML nodes into values.
type treeBuilder struct {
	file     string
	data     []byte
	problems Problems
	nodes    int
	active   map[*yaml.Node]bool // anchors being expanded
}

// parseTree reads the one document of a file.
func parseTree(file string, data []byte) (*value, Problems) {
	b := &treeBuilder{file: file, data: data, active: map[*yaml.Node]bool{}}
	if len(data) > MaxFile {
		return nil, Problems{{File: file, What: fmt.Sprintf("file has more than %d bytes", MaxFile), Cure: "move long configurations to files of their own (configFile)"}}
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc, second yaml.Node
	if err := dec.Decode(&doc); err != nil {
		return nil, Problems{b.syntax(err)}
	}
	if len(doc.Content) != 1 {
		return nil, Problems{b.syntax(io.EOF)}
	}
	root, ok := b.build(doc.Content[0], "", 0)
	switch err := dec.Decode(&second); {
	case err == nil:
		b.report(&second, "", "a second document starts here", "write one chain per file")
	case !errors.Is(err, io.EOF):
		b.problems = append(b.problems, b.syntax(err))
	}
	if !ok || len(b.problems) > 0 {
		return nil, b.problems
	}
	return &root, nil
}

// syntax makes a problem of an error of the YAML library, which says
// "yaml: line 3: did not find ...", or gives no line when it is the first.
func (b *treeBuilder) syntax(err error) *Problem {
	if errors.Is(err, io.EOF) {
		return &Problem{File: b.file, What: "file is empty", Cure: "start with apiVersion: sfc/v1 and kind: Chain"}
	}
	p := &Problem{File: b.file, Line: 1, What: strings.TrimPrefix(err.Error(), "yaml: "), Cure: "correct the YAML there"}
	if rest, ok := strings.CutPrefix(p.What, "line "); ok {
		if number, what, ok := strings.Cut(rest, ": "); ok {
			if n, err := strconv.Atoi(number); err == nil {
				p.Line, p.What = n, what
				if parserError(what) {
					p.Line++
				}
			}
		}
	}
	if _, name, ok := strings.Cut(p.What, "unknown anchor '"); ok {
		name, _, _ = strings.Cut(name, "'")
		before, _, _ := bytes.Cut(b.data, []byte("*"+name))
		p.Line = bytes.Count(before, []byte("\n")) + 1
		p.Column = len(before) - bytes.LastIndexByte(before, '\n')
	}
	if strings.Contains(p.What, "control characters") || strings.Contains(p.What, "UTF-8") {
		p.Line, p.Cure = 0, "write the file as UTF-8 text"
	}
	return p
}

// parserError reports whether the library's parser said what. It counts lines
// from 0 in its own errors, and from 1 in those of its scanner.
func parserError(what string) bool {
	rest, ok := strings.CutPrefix(what, "did not find expected ")
	if !ok {
		return false
	}
	switch rest {
	case "<document start>", "node content", "'-' indicator", "key", "',' or ']'", "',' or '}'":
		return true
	}
	return false
}

func (b *treeBuilder) report(n *yaml.Node, path, what, cure string) {
	if len(b.problems) < maxProblems {
		b.problems = append(b.problems, &Problem{File: b.file, Line: n.Line, Column: n.Column, Field: path, What: what, Cure: cure})
	}
}

// build converts n; ok is false when a limit was met and it makes no sense to
// go on.
func (b *treeBuilder) build(n *yaml.Node, path string, depth int) (v value, ok bool) {
	if b.nodes++; b.nodes > maxNodes {
		b.report(n, path, fmt.Sprintf("file describes more than %d values, aliases expanded", maxNodes), "use fewer aliases, or move configurations to files of their own (configFile)")
		return v, false
	}
	if depth > maxDepth {
		b.report(n, path, fmt.Sprintf("structure is nested more than %d deep", maxDepth), "flatten it")
		return v, false
	}
	v = value{line: n.Line, column: n.Column}
	switch n.Kind {
	case yaml.AliasNode:
		if b.active[n.Alias] {
			b.report(n, path, fmt.Sprintf("alias *%s stands inside its own anchor", n.Value), "write the value out")
			return v, false
		}
		b.active[n.Alias] = true
		v, ok = b.build(n.Alias, path, depth+1)
		delete(b.active, n.Alias)
		return v, ok
	case yaml.SequenceNode:
		return b.list(v, n, path, depth)
	case yaml.MappingNode:
		return b.object(v, n, path, depth)
	}
	v.text = n.Value
	switch tag := n.ShortTag(); tag {
	case "!!null":
		v.kind = kindNull
	case "!!bool":
		v.kind = kindBool
	case "!!int":
		v.kind = kindInt
	case "!!float":
		v.kind = kindFloat
	case "!!str", "!!timestamp":
		v.kind = kindString
	default:
		b.report(n, path, fmt.Sprintf("tag %s is unknown", quote(tag)), "leave the tag out")
	}
	return v, true
}

func (b *treeBuilder) list(v value, n *yaml.Node, path string, depth int) (value, bool) {
	v.kind = kindList
	b.plainTag(n, path, "!!seq")
	for i, c := range n.Content {
		item, ok := b.build(c, fmt.Sprintf("%s[%d]", path, i), depth+1)
		if !ok {
			return v, false
		}
		v.items = append(v.items, item)
	}
	return v, true
}

func (b *treeBuilder) object(v value, n *yaml.Node, path string, depth int) (value, bool) {
	v.kind = kindObject
	b.plainTag(n, path, "!!map")
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		name, sub := key.Value, join(path, key.Value)
		switch {
		case key.Kind == yaml.ScalarNode && key.ShortTag() == "!!merge":
			b.report(key, sub, "merge keys are not read", "write the fields out")
		case key.Kind != yaml.ScalarNode || key.ShortTag() != "!!str":
			b.report(key, path, fmt.Sprintf("field name %s is not text", quote(name)), "put it in quotes")
		case seen[name] > 0:
			b.report(key, sub, fmt.Sprintf("field is given twice, first in line %d", seen[name]), "remove one")
		}
		seen[name] = key.Line
		val, ok := b.build(n.Content[i+1], sub, depth+1)
		if !ok {
			return v, false
		}
		v.fields = append(v.fields, fieldValue{name, key.Line, key.Column, val})
	}
	return v, true
}

// plainTag reports a list or object that carries a tag of its own.
func (b *treeBuilder) plainTag(n *yaml.Node, path, want string) {
	if tag := n.ShortTag(); tag != want {
		b.report(n, path, fmt.Sprintf("tag %s is unknown", quote(tag)), "leave the tag out")
	}
}

// join appends a field name to a path; a name that would be misread is quoted.
func join(path, name string) string {
	if name == "" || strings.ContainsAny(name, ". []\"\n") || len(name) > 64 {
		name = quote(name)
	}
	if path == "" {
		return name
	}
	return path + "." + name
}
