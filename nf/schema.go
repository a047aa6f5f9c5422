package nf

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// Bounds of a configuration schema.
const (
	// maxSchemaCost bounds the steps a schema may take per value: keywords,
	// entries of lists and instructions of patterns, references expanded.
	maxSchemaCost = 4096
	// maxSchemaWork bounds steps times the configuration's bytes: seconds.
	maxSchemaWork = 1 << 30
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
	cost     int // steps per byte of configuration at most
}

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
	c := schemaCheck{}
	c.defs, _ = root["$defs"].(map[string]any)
	cost := c.schema(root, "config_schema")
	if len(c.errs) > 0 {
		return nil, errors.Join(c.errs...)
	}
	if cost > maxSchemaCost {
		return nil, &Refusal{ErrManifest, "manifest: config_schema takes too many steps",
			fmt.Sprintf("at most %d keywords, list entries and pattern instructions are allowed, references expanded", maxSchemaCost)}
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
	return &configSchema{compiled, doc, cost}, nil
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
	cost map[string]int // of definitions; -1 while it is being found
	errs []error
}

func (c *schemaCheck) refuse(path, what, cure string) {
	const most = 16
	if len(c.errs) < most {
		c.errs = append(c.errs, &Refusal{ErrManifest, "manifest: " + path + ": " + what, cure})
	}
}

// schema returns the steps s takes, at most a little above maxSchemaCost. What
// has the wrong type is left to the metaschema.
func (c *schemaCheck) schema(s any, path string) int {
	obj, ok := s.(map[string]any)
	if !ok {
		return 1
	}
	total := 1
	for _, key := range slices.Sorted(maps.Keys(obj)) {
		sh, ok := keywords[key]
		if !ok {
			c.refuse(path, fmt.Sprintf("keyword %q is not supported", abbreviate(key)), suggest(key, slices.Collect(maps.Keys(keywords))))
			continue
		}
		if key == "$defs" {
			if path != "config_schema" {
				c.refuse(path, "$defs below the top", "move it to the top of the schema")
			}
			c.definitions()
			continue // counted where they are used
		}
		total = min(total+1+c.keyword(sh, obj[key], path+jsonField(key)), maxSchemaCost+1)
	}
	return total
}

func (c *schemaCheck) keyword(sh shape, v any, path string) int {
	total := 0
	add := func(n int) { total = min(total+n, maxSchemaCost+1) }
	str, _ := v.(string)
	switch sh {
	case list:
		entries, _ := v.([]any)
		add(len(entries))
	case oneSchema:
		add(c.schema(v, path))
	case schemaList:
		entries, _ := v.([]any)
		for i, e := range entries {
			add(c.schema(e, fmt.Sprintf("%s[%d]", path, i)))
		}
	case schemaMap, patternMap:
		entries, _ := v.(map[string]any)
		for _, name := range slices.Sorted(maps.Keys(entries)) {
			if sh == patternMap {
				add(c.pattern(name, path))
			}
			add(c.schema(entries[name], path+jsonField(name)))
		}
	case pattern:
		add(c.pattern(str, path))
	case reference:
		add(c.reference(str, path))
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

// pattern returns the size of the program a regular expression compiles to: it
// runs in at most so many steps per character.
func (c *schemaCheck) pattern(expr, path string) int {
	if len(expr) > maxPattern {
		c.refuse(path, fmt.Sprintf("pattern of %d characters", len(expr)), fmt.Sprintf("at most %d are allowed", maxPattern))
		return 0
	}
	if _, err := regexp.Compile(expr); err != nil {
		c.refuse(path, "pattern "+err.Error(), "use Go's syntax (RE2): no look-around, no back-references")
		return 0
	}
	parsed, err := syntax.Parse(expr, syntax.Perl)
	if err != nil {
		return 0 // regexp.Compile accepted it with the same flags
	}
	prog, err := syntax.Compile(parsed.Simplify())
	if err != nil {
		return 0
	}
	return len(prog.Inst)
}

// reference returns the cost of the definition that ref names.
func (c *schemaCheck) reference(ref, path string) int {
	name, ok := strings.CutPrefix(ref, "#/$defs/")
	if !ok || strings.ContainsAny(name, "/~%") {
		c.refuse(path, fmt.Sprintf("reference %q", abbreviate(ref)), "only #/$defs/NAME is followed, nothing outside the schema")
		return 0
	}
	def, ok := c.defs[name]
	if !ok {
		c.refuse(path, fmt.Sprintf("reference to a definition %q that does not exist", abbreviate(name)), suggest(name, slices.Collect(maps.Keys(c.defs))))
		return 0
	}
	if c.cost == nil {
		c.cost = map[string]int{}
	}
	switch cost, found := c.cost[name]; {
	case cost < 0:
		c.refuse(path, fmt.Sprintf("definition %q contains itself", abbreviate(name)), "recursive schemas are not run: their cost has no bound")
		return 0
	case found:
		return cost
	}
	c.cost[name] = -1
	cost := c.schema(def, "config_schema.$defs"+jsonField(name))
	c.cost[name] = cost
	return cost
}

// definitions checks every definition, used or not.
func (c *schemaCheck) definitions() {
	for _, name := range slices.Sorted(maps.Keys(c.defs)) {
		if !strings.ContainsAny(name, "/~%") {
			c.reference("#/$defs/"+name, "config_schema.$defs"+jsonField(name))
		} else {
			c.refuse("config_schema.$defs", fmt.Sprintf("name %q", abbreviate(name)), "use names without / ~ %")
		}
	}
}
