package nf

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"regexp/syntax"
	"slices"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// Bounds of a configuration schema.
const (
	// maxSchemaCost bounds both parts of a schema's cost.
	maxSchemaCost = 4096
	// maxSteps bounds a schema's steps times the configuration's values. A
	// step takes up to 1.6 us: when it fails, the error is kept.
	maxSteps = 4 << 20
	// maxMatching bounds a schema's pattern instructions times the
	// configuration's bytes, at up to 4 ns.
	maxMatching   = 1 << 30
	maxPattern    = 512 // characters
	schemaDialect = "https://json-schema.org/draft/2020-12/schema"
	schemaURL     = "sfc:///config_schema"
)

// shape is what a schema keyword holds.
type shape int

const (
	plainValue  shape = iota // checked by the metaschema only
	list                     // an array of values, each a step
	oneSchema                // a schema
	schemaList               // an array of schemas
	schemaMap                // an object of schemas
	patternMap               // an object of schemas by regular expression
	pattern                  // a regular expression
	reference                // #/$defs/NAME
	formatName               // a known format
	dialectName              // the dialect's URL
)

// keywords are those of JSON Schema 2020-12 whose cost is known before they
// run. Left out: what refers elsewhere ($id, $anchor, $dynamicRef) and what
// depends on the outcome of others (unevaluated...).
var keywords = map[string]shape{
	"$schema": dialectName, "$comment": plainValue, "$defs": schemaMap, "$ref": reference,
	"title": plainValue, "description": plainValue, "default": plainValue, "examples": plainValue, "deprecated": plainValue,
	"type": plainValue, "enum": list, "const": plainValue,
	"allOf": schemaList, "anyOf": schemaList, "oneOf": schemaList, "not": oneSchema,
	"if": oneSchema, "then": oneSchema, "else": oneSchema,
	"properties": schemaMap, "patternProperties": patternMap, "additionalProperties": oneSchema, "propertyNames": oneSchema,
	"required": list, "minProperties": plainValue, "maxProperties": plainValue,
	"dependentRequired": plainValue, "dependentSchemas": schemaMap,
	"items": oneSchema, "prefixItems": schemaList, "contains": oneSchema, "minContains": plainValue, "maxContains": plainValue,
	"minItems": plainValue, "maxItems": plainValue, "uniqueItems": plainValue,
	"minLength": plainValue, "maxLength": plainValue, "pattern": pattern, "format": formatName,
	"minimum": plainValue, "maximum": plainValue, "exclusiveMinimum": plainValue, "exclusiveMaximum": plainValue, "multipleOf": plainValue,
}

// formats are the values of "format" that are checked. ip-prefix is the
// engine's own: an IPv4 or IPv6 prefix such as 10.0.0.0/8.
var formats = []string{"ipv4", "ipv6", "hostname", "ip-prefix"}

func validatePrefix(v any) error {
	s, ok := v.(string)
	if !ok {
		return nil
	}
	_, err := netip.ParsePrefix(s)
	return err
}

// configSchema is a compiled configuration schema. Safe for concurrent use.
type configSchema struct {
	compiled *jsonschema.Schema
	doc      any // the schema as decoded, to name what it allows
	cost     cost
}

// cost is what a schema takes at most, references expanded, each part up to a
// little above maxSchemaCost.
type cost struct {
	steps   int // keywords and entries of lists, per value
	matches int // instructions of patterns, per byte
}

func (c *cost) add(d cost) {
	c.steps = min(c.steps+d.steps, maxSchemaCost+1)
	c.matches = min(c.matches+d.matches, maxSchemaCost+1)
}

func (c cost) tooHigh() bool { return max(c.steps, c.matches) > maxSchemaCost }

// refuseAll is the loader of everything a schema refers to outside itself.
type refuseAll struct{}

func (refuseAll) Load(url string) (any, error) {
	return nil, fmt.Errorf("%s: references outside the schema are not followed", url)
}

// compileSchema checks that raw (which scanJSON accepted) is a schema of
// bounded cost and compiles it. Errors wrap [ErrManifest].
func compileSchema(raw []byte) (*configSchema, error) {
	doc, err := decodeJSON(raw)
	if err != nil {
		return nil, &Refusal{ErrManifest, "manifest: config_schema", err.Error()}
	}
	root, ok := doc.(map[string]any)
	if !ok {
		return nil, &Refusal{ErrManifest, "manifest: config_schema is " + abbreviate(string(raw)), "give an object: a schema of JSON Schema 2020-12"}
	}
	c := schemaCheck{cost: map[string]*cost{}}
	c.defs, _ = root["$defs"].(map[string]any)
	total := c.schema(root, "config_schema")
	if len(c.errs) > 0 {
		return nil, errors.Join(c.errs...)
	}
	if total.tooHigh() {
		return nil, &Refusal{ErrManifest, "manifest: config_schema takes too many steps",
			fmt.Sprintf("at most %d keywords and list entries and as many pattern instructions are allowed, references expanded", maxSchemaCost)}
	}
	compiler := jsonschema.NewCompiler()
	compiler.DefaultDraft(jsonschema.Draft2020)
	compiler.UseLoader(refuseAll{})
	compiler.RegisterFormat(&jsonschema.Format{Name: "ip-prefix", Validate: validatePrefix})
	compiler.AssertFormat()
	if err := compiler.AddResource(schemaURL, doc); err != nil {
		return nil, &Refusal{ErrManifest, "manifest: config_schema", err.Error()}
	}
	compiled, err := compiler.Compile(schemaURL)
	if err != nil {
		return nil, schemaErrors(err, doc)
	}
	return &configSchema{compiled, doc, total}, nil
}

// schemaErrors explains why a schema does not compile.
func schemaErrors(err error, doc any) error {
	var invalid *jsonschema.SchemaValidationError
	var broken *jsonschema.ValidationError
	if errors.As(err, &invalid) && errors.As(invalid.Err, &broken) {
		return explain(broken, "manifest: config_schema", ErrManifest, doc, nil)
	}
	return &Refusal{ErrManifest, "manifest: config_schema", err.Error()}
}

// schemaCheck walks a schema and adds up what it costs.
type schemaCheck struct {
	defs map[string]any
	cost map[string]*cost // of definitions; nil while it is being found
	errs []error
}

func (c *schemaCheck) refuse(path, what, cure string) {
	const most = 16
	if len(c.errs) < most {
		c.errs = append(c.errs, &Refusal{ErrManifest, "manifest: " + path + ": " + what, cure})
	}
}

// schema returns what checking s costs. What has the wrong type is left to the
// metaschema.
func (c *schemaCheck) schema(s any, path string) cost {
	total := cost{steps: 1}
	obj, _ := s.(map[string]any)
	for _, key := range slices.Sorted(maps.Keys(obj)) {
		sh, ok := keywords[key]
		switch {
		case !ok:
			c.refuse(path, fmt.Sprintf("keyword %q is not supported", abbreviate(key)), suggest(key, slices.Collect(maps.Keys(keywords))))
		case key == "$defs":
			if path != "config_schema" {
				c.refuse(path, "$defs below the top", "move it to the top of the schema")
			}
			c.definitions() // counted where they are used
		default:
			total.add(cost{steps: 1})
			total.add(c.keyword(sh, obj[key], path+jsonField(key)))
		}
	}
	return total
}

func (c *schemaCheck) keyword(sh shape, v any, path string) cost {
	var total cost
	str, _ := v.(string)
	entries, _ := v.([]any)
	fields, _ := v.(map[string]any)
	switch sh {
	case list:
		total.add(cost{steps: len(entries)})
	case oneSchema:
		total.add(c.schema(v, path))
	case schemaList:
		for i, e := range entries {
			total.add(c.schema(e, fmt.Sprintf("%s[%d]", path, i)))
		}
	case schemaMap, patternMap:
		for _, name := range slices.Sorted(maps.Keys(fields)) {
			if sh == patternMap {
				total.add(c.pattern(name, path))
			}
			total.add(c.schema(fields[name], path+jsonField(name)))
		}
	case pattern:
		total.add(c.pattern(str, path))
	case reference:
		total.add(c.reference(str, path))
	case formatName:
		if !slices.Contains(formats, str) {
			c.refuse(path, fmt.Sprintf("format %q is not checked", abbreviate(str)), suggest(str, formats))
		}
	case dialectName:
		if str != schemaDialect {
			c.refuse(path, fmt.Sprintf("dialect %q", abbreviate(str)), "use "+schemaDialect)
		}
	}
	return total
}

// pattern returns the cost of a regular expression: it takes at most one step
// per character and instruction of the program it compiles to.
func (c *schemaCheck) pattern(expr, path string) cost {
	if len(expr) > maxPattern {
		c.refuse(path, fmt.Sprintf("pattern of %d characters", len(expr)), fmt.Sprintf("at most %d are allowed", maxPattern))
		return cost{}
	}
	parsed, err := syntax.Parse(expr, syntax.Perl)
	if err != nil {
		c.refuse(path, "pattern: "+err.Error(), "use Go's syntax (RE2): no look-around, no back-references")
		return cost{}
	}
	prog, err := syntax.Compile(parsed.Simplify())
	if err != nil {
		c.refuse(path, "pattern: "+err.Error(), "make it shorter")
		return cost{}
	}
	return cost{matches: len(prog.Inst)}
}

// reference returns the cost of the definition that ref names.
func (c *schemaCheck) reference(ref, path string) cost {
	name, ok := strings.CutPrefix(ref, "#/$defs/")
	if !ok || strings.ContainsAny(name, "/~%") {
		c.refuse(path, fmt.Sprintf("reference %q", abbreviate(ref)), "only #/$defs/NAME is followed, nothing outside the schema")
		return cost{}
	}
	def, ok := c.defs[name]
	if !ok {
		c.refuse(path, fmt.Sprintf("reference to a definition %q that does not exist", abbreviate(name)), suggest(name, slices.Collect(maps.Keys(c.defs))))
		return cost{}
	}
	switch known, found := c.cost[name]; {
	case known != nil:
		return *known
	case found:
		c.refuse(path, fmt.Sprintf("definition %q contains itself", abbreviate(name)), "recursive schemas are not run: their cost has no bound")
		return cost{}
	}
	c.cost[name] = nil
	total := c.schema(def, "config_schema.$defs"+jsonField(name))
	c.cost[name] = &total
	return total
}

// definitions checks every definition, used or not.
func (c *schemaCheck) definitions() {
	for _, name := range slices.Sorted(maps.Keys(c.defs)) {
		if strings.ContainsAny(name, "/~%") {
			c.refuse("config_schema.$defs", fmt.Sprintf("name %q", abbreviate(name)), "use names without / ~ %")
			continue
		}
		c.reference("#/$defs/"+name, "config_schema.$defs"+jsonField(name))
	}
}
