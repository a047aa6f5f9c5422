package chains

import (
	"fmt"
	"strconv"
	"strings"
)

// decoder reads values into Go types and collects what is wrong with them.
type decoder struct {
	file, dir string
	problems  Problems
}

func (d *decoder) report(v *value, path, what, cure string) {
	if len(d.problems) < maxProblems {
		d.problems = append(d.problems, &Problem{File: d.file, Line: v.line, Column: v.column, Field: path, What: what, Cure: cure})
	}
}

const (
	required = true
	optional = false
)

// field is one field an object may have.
type field struct {
	name     string
	required bool
	read     func(v *value, path string)
}

// field returns the value of a field, nil when v has none of that name.
func (v *value) field(name string) *value {
	for i := range v.fields {
		if v.fields[i].name == name {
			return &v.fields[i].value
		}
	}
	return nil
}

// object reads the fields of v in the order of known, whatever their order in
// the file, and reports those that are unknown or missing.
func (d *decoder) object(v *value, path string, known []field) {
	if !d.want(v, path, kindObject) {
		return
	}
	names := make([]string, len(known))
	for i, f := range known {
		names[i] = f.name
	}
	for i := range v.fields {
		f := &v.fields[i]
		at := value{line: f.line, column: f.column}
		found := false
		for _, n := range names {
			found = found || n == f.name
		}
		if !found {
			d.report(&at, join(path, f.name), "field is unknown", suggest(f.name, names))
		}
	}
	for _, f := range known {
		switch got := v.field(f.name); {
		case got != nil:
			f.read(got, join(path, f.name))
		case f.required:
			d.report(v, join(path, f.name), "field is missing", "add it")
		}
	}
}

func (d *decoder) list(v *value, path string, most int, read func(v *value, path string)) {
	if !d.want(v, path, kindList) {
		return
	}
	if len(v.items) > most {
		d.report(v, path, fmt.Sprintf("list has %d elements", len(v.items)), fmt.Sprintf("give at most %d", most))
		return
	}
	for i := range v.items {
		read(&v.items[i], fmt.Sprintf("%s[%d]", path, i))
	}
}

// want reports v unless it is of kind k.
func (d *decoder) want(v *value, path string, k kind) bool {
	if v.kind == k {
		return true
	}
	what := "is " + kindNames[v.kind]
	if v.kind != kindObject && v.kind != kindList && v.kind != kindNull {
		what = fmt.Sprintf("%s is %s", v.text, kindNames[v.kind])
		if v.kind == kindString {
			what = fmt.Sprintf("%s is text", quote(v.text))
		}
	}
	cure := "give " + kindNames[k]
	switch {
	case k == kindString && v.kind != kindObject && v.kind != kindList && v.kind != kindNull:
		cure = "put it in quotes"
	case v.kind == kindNull:
		cure += " or remove the field"
	}
	d.report(v, path, what, cure)
	return false
}

func (d *decoder) text(v *value, path string) (s string, ok bool) {
	return v.text, d.want(v, path, kindString)
}

// integer reads a plain decimal number: YAML's octal, hexadecimal and
// underscored forms surprise more people than they help.
func (d *decoder) integer(v *value, path string, lo, hi int) int {
	if !d.want(v, path, kindInt) {
		return 0
	}
	n, err := strconv.Atoi(v.text)
	if err != nil || n < lo || n > hi || strconv.Itoa(n) != v.text {
		d.report(v, path, fmt.Sprintf("%s is not a decimal number in range", v.text), fmt.Sprintf("give one between %d and %d", lo, hi))
		return 0
	}
	return n
}

// constant reads a field that has only one possible value.
func (d *decoder) constant(v *value, path, want string) {
	if s, ok := d.text(v, path); ok && s != want {
		d.report(v, path, fmt.Sprintf("%s is unknown", quote(s)), fmt.Sprintf("write %s: %s", path, want))
	}
}

// oneOf reads one of several words and returns its index, 0 on error.
func (d *decoder) oneOf(v *value, path string, words []string) int {
	s, ok := d.text(v, path)
	if !ok {
		return 0
	}
	for i, w := range words {
		if s == w {
			return i
		}
	}
	d.report(v, path, fmt.Sprintf("%s is unknown", quote(s)), suggest(s, words))
	return 0
}

const labelRule = "1 to 63 of a-z, 0-9 and -, with a letter or digit first and last"

// isLabel reports whether s is an RFC 1123 label.
func isLabel(s string) bool {
	alnum := func(c byte) bool { return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' }
	if len(s) == 0 || len(s) > 63 || !alnum(s[0]) || !alnum(s[len(s)-1]) {
		return false
	}
	for i := range len(s) {
		if !alnum(s[i]) && s[i] != '-' {
			return false
		}
	}
	return true
}

func (d *decoder) label(v *value, path string) string {
	s, ok := d.text(v, path)
	if ok && !isLabel(s) {
		d.report(v, path, fmt.Sprintf("%s is not a name", quote(s)), "use "+labelRule)
	}
	return s
}

// port reads a port's name. Ports are often named after interfaces, so their
// rules hold (IFNAMSIZ).
func (d *decoder) port(v *value, path string) string {
	s, ok := d.text(v, path)
	bad := func(r rune) bool { return r <= ' ' || r == '/' || r == 0x7f }
	if ok && (s == "" || len(s) > 15 || s == "." || s == ".." || strings.ContainsFunc(s, bad)) {
		d.report(v, path, fmt.Sprintf("%s is not a port's name", quote(s)), "use 1 to 15 characters without blanks and slashes")
	}
	return s
}
