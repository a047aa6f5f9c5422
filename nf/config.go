package nf

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
	"golang.org/x/text/language"
	"golang.org/x/text/message"
)

// CheckConfig checks a configuration (JSON) against the function's schema.
// No bytes at all count as {}; a function without a schema takes only that.
// Each error names the path, the value and what is allowed, and wraps
// [ErrConfig].
func (m *Manifest) CheckConfig(config []byte) error {
	if len(config) > ConfigMax {
		return &Refusal{ErrConfig, fmt.Sprintf("config of %d bytes", len(config)), fmt.Sprintf("at most %d are allowed", ConfigMax)}
	}
	if len(config) == 0 {
		config = []byte("{}")
	}
	values, err := scanJSON(config, "config", ErrConfig)
	if err != nil {
		return err
	}
	doc, err := decodeJSON(config)
	if err != nil {
		return &Refusal{ErrConfig, "config is not JSON", err.Error()}
	}
	if m.schema == nil {
		if obj, ok := doc.(map[string]any); !ok || len(obj) > 0 {
			return &Refusal{ErrConfig, "config " + show(doc), fmt.Sprintf("function %q takes no configuration: its manifest has no config_schema", m.Name)}
		}
		return nil
	}
	switch c := m.schema.cost; {
	case c.steps*values > maxSteps:
		return &Refusal{ErrConfig, fmt.Sprintf("config of %d values", values),
			fmt.Sprintf("at most %d are checked against this function's schema, which takes %d steps", maxSteps/c.steps, c.steps)}
	case c.matches*len(config) > maxMatching:
		return &Refusal{ErrConfig, fmt.Sprintf("config of %d bytes", len(config)),
			fmt.Sprintf("at most %d are checked against this function's schema, whose patterns have %d instructions", maxMatching/c.matches, c.matches)}
	}
	var invalid *jsonschema.ValidationError
	switch err := m.schema.compiled.Validate(doc); {
	case err == nil:
		return nil
	case errors.As(err, &invalid):
		return explain(invalid, "config", ErrConfig, doc, m.schema.doc)
	default:
		return &Refusal{ErrConfig, "config", err.Error()}
	}
}

// explainer turns a tree of schema errors into lines.
type explainer struct {
	root   string
	doc    any // what was checked
	schema any // against what; nil when that is the metaschema
	lines  []explained
}

type explained struct {
	at         []string
	what, cure string
}

// explain lists the leaves of a schema error in the order of the document,
// those that say most first and a bounded number of them.
func explain(err *jsonschema.ValidationError, root string, sentinel error, doc, schema any) error {
	const most = 16
	x := explainer{root: root, doc: doc, schema: schema}
	x.walk(err)
	slices.SortFunc(x.lines, func(a, b explained) int {
		return cmp.Or(slices.CompareFunc(a.at, b.at, comparePart), cmp.Compare(a.what, b.what), cmp.Compare(a.cure, b.cure))
	})
	x.lines = slices.CompactFunc(x.lines, func(a, b explained) bool { return a.what == b.what && a.cure == b.cure })
	var errs []error
	for i, l := range x.lines {
		if i == most {
			errs = append(errs, &Refusal{sentinel, fmt.Sprintf("%s: %d more errors", root, len(x.lines)-most), "correct the first ones"})
			break
		}
		errs = append(errs, &Refusal{sentinel, l.what, l.cure})
	}
	return errors.Join(errs...)
}

// comparePart orders array indices as numbers, everything else as text.
func comparePart(a, b string) int {
	i, errA := strconv.Atoi(a)
	j, errB := strconv.Atoi(b)
	if errA == nil && errB == nil {
		return cmp.Compare(i, j)
	}
	return cmp.Compare(a, b)
}

func (x *explainer) add(err *jsonschema.ValidationError, what, cure string) {
	x.lines = append(x.lines, explained{err.InstanceLocation, x.path(err.InstanceLocation) + what, cure})
}

func (x *explainer) walk(err *jsonschema.ValidationError) {
	value := ": " + show(find(x.doc, err.InstanceLocation))
	switch k := err.ErrorKind.(type) {
	case *kind.Schema, *kind.Group, *kind.Reference, *kind.AllOf:
		for _, cause := range err.Causes {
			x.walk(cause)
		}
	case *kind.AnyOf, *kind.OneOf:
		x.alternatives(err, value)
	case *kind.Required:
		for _, name := range k.Missing {
			x.add(err, fmt.Sprintf(": no field %q", name), "it is required")
		}
	case *kind.AdditionalProperties:
		known := x.properties(err.SchemaURL)
		for _, name := range k.Properties {
			x.add(err, fmt.Sprintf(": unknown field %q", abbreviate(name)), suggest(name, known))
		}
	default:
		x.add(err, value, allowed(err.ErrorKind))
	}
}

// alternatives says in one line why none of several schemas fits.
func (x *explainer) alternatives(err *jsonschema.ValidationError, value string) {
	if len(err.Causes) == 0 {
		x.add(err, value, "fits more than one of the schema's alternatives")
		return
	}
	inner := explainer{root: x.root, doc: x.doc, schema: x.schema}
	for _, cause := range err.Causes {
		inner.walk(cause)
	}
	var why []string
	for _, l := range inner.lines {
		text := l.cure
		if !slices.Equal(l.at, err.InstanceLocation) || strings.Contains(l.what, " field ") {
			text = l.what + ": " + l.cure
		}
		if !slices.Contains(why, text) {
			why = append(why, text)
		}
	}
	slices.Sort(why)
	if len(why) > 6 {
		why = append(why[:6], "...")
	}
	x.add(err, value, strings.Join(why, ", or "))
}

// allowed says what a keyword allows.
func allowed(k jsonschema.ErrorKind) string {
	switch k := k.(type) {
	case *kind.Type:
		return "must be of type " + strings.Join(k.Want, " or ")
	case *kind.Enum:
		values := make([]string, 0, 20)
		for i, v := range k.Want {
			if i == cap(values) {
				values[i-1] = "..."
				break
			}
			values = append(values, show(v))
		}
		return "must be one of " + strings.Join(values, ", ")
	case *kind.Const:
		return "must be " + show(k.Want)
	case *kind.Minimum:
		return "must be at least " + decimal(k.Want)
	case *kind.Maximum:
		return "must be at most " + decimal(k.Want)
	case *kind.ExclusiveMinimum:
		return "must be above " + decimal(k.Want)
	case *kind.ExclusiveMaximum:
		return "must be below " + decimal(k.Want)
	case *kind.MultipleOf:
		return "must be a multiple of " + decimal(k.Want)
	case *kind.MinLength:
		return fmt.Sprintf("must have at least %d characters", k.Want)
	case *kind.MaxLength:
		return fmt.Sprintf("must have at most %d characters, has %d", k.Want, k.Got)
	case *kind.MinItems:
		return fmt.Sprintf("must have at least %d elements, has %d", k.Want, k.Got)
	case *kind.MaxItems:
		return fmt.Sprintf("must have at most %d elements, has %d", k.Want, k.Got)
	case *kind.UniqueItems:
		return fmt.Sprintf("elements %d and %d are equal", k.Duplicates[0], k.Duplicates[1])
	case *kind.Pattern:
		return "must match " + k.Want
	case *kind.Format:
		return "must be of format " + k.Want
	case *kind.FalseSchema:
		return "must not be given"
	}
	return k.LocalizedString(message.NewPrinter(language.English))
}

// decimal writes a bound as the schema's author would.
func decimal(r *big.Rat) string {
	if r.IsInt() {
		return r.RatString()
	}
	return strings.TrimRight(r.FloatString(9), "0")
}

// show renders a value for an error message, in little more than a line
// whatever its size.
func show(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case map[string]any:
		if len(v) > 0 {
			return fmt.Sprintf("an object of %d fields", len(v))
		}
		return "{}"
	case []any:
		if len(v) > 0 {
			return fmt.Sprintf("an array of %d elements", len(v))
		}
		return "[]"
	case string:
		return strconv.Quote(abbreviate(v))
	}
	return abbreviate(fmt.Sprint(v)) // bool or json.Number
}

// path renders a location as config.rules[3].proto.
func (x *explainer) path(at []string) string {
	var sb strings.Builder
	sb.WriteString(x.root)
	v := x.doc
	for i, part := range at {
		if _, ok := v.([]any); ok {
			sb.WriteString("[" + part + "]")
		} else {
			sb.WriteString(jsonField(part))
		}
		v = find(x.doc, at[:i+1])
	}
	return sb.String()
}

// find returns the value at a location, nil if there is none.
func find(doc any, at []string) any {
	for _, part := range at {
		switch v := doc.(type) {
		case map[string]any:
			doc = v[part]
		case []any:
			i, err := strconv.Atoi(part)
			if err != nil || i < 0 || i >= len(v) {
				return nil
			}
			doc = v[i]
		default:
			return nil
		}
	}
	return doc
}

// properties lists the fields that the schema at location allows. The location
// is a URL whose fragment is a JSON pointer (RFC 6901).
func (x *explainer) properties(location string) []string {
	_, fragment, _ := strings.Cut(location, "#")
	pointer, err := url.PathUnescape(fragment)
	if err != nil {
		return nil
	}
	var at []string
	for _, part := range strings.Split(pointer, "/")[1:] {
		at = append(at, strings.NewReplacer("~1", "/", "~0", "~").Replace(part))
	}
	s, _ := find(x.schema, at).(map[string]any)
	props, _ := s["properties"].(map[string]any)
	return slices.Collect(maps.Keys(props))
}
