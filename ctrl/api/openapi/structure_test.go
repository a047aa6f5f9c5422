package openapi_test

import (
	"bytes"
	"encoding/json"
	"slices"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"sfc/ctrl/api"
)

// structure is what OpenAPI 3.1 (sections 4.8.1 to 4.8.30) says of the objects
// that the document uses, and nothing else: a misspelt field is an error.
const structure = `{
"$schema": "https://json-schema.org/draft/2020-12/schema",
"type": "object", "additionalProperties": false,
"required": ["openapi", "info", "paths", "components"],
"properties": {
  "openapi": {"const": "3.1.0"},
  "info": {"type": "object", "additionalProperties": false, "required": ["title", "version"], "properties": {
    "title": {"type": "string"}, "version": {"type": "string"}, "description": {"type": "string"},
    "license": {"type": "object", "required": ["name"]}}},
  "servers": {"type": "array", "items": {"type": "object", "required": ["url"]}},
  "tags": {"type": "array", "items": {"type": "object", "required": ["name"]}},
  "paths": {"type": "object", "additionalProperties": false, "patternProperties": {"^/": {
    "type": "object", "additionalProperties": false, "minProperties": 1,
    "patternProperties": {"^(get|put|post|delete)$": {"$ref": "#/$defs/operation"}}}}},
  "components": {"type": "object", "additionalProperties": false, "properties": {
    "schemas": {"$ref": "#/$defs/schemas"},
    "securitySchemes": {"type": "object", "additionalProperties": {"type": "object", "required": ["type", "scheme"]}},
    "responses": {"type": "object", "additionalProperties": {"$ref": "#/$defs/response"}}}}
},
"$defs": {
  "schemas": {"type": "object", "propertyNames": {"pattern": "^[A-Za-z0-9._-]+$"}, "additionalProperties": {"$ref": "https://json-schema.org/draft/2020-12/schema"}},
  "schema": {"$ref": "https://json-schema.org/draft/2020-12/schema"},
  "content": {"type": "object", "minProperties": 1, "propertyNames": {"pattern": "^[a-z]+/"}, "additionalProperties": {
    "type": "object", "additionalProperties": false, "properties": {"schema": {"$ref": "#/$defs/schema"}}}},
  "response": {"oneOf": [
    {"type": "object", "additionalProperties": false, "required": ["$ref"], "properties": {"$ref": {"type": "string"}}},
    {"type": "object", "additionalProperties": false, "required": ["description"], "properties": {
      "description": {"type": "string", "minLength": 1}, "content": {"$ref": "#/$defs/content"}}}]},
  "parameter": {"type": "object", "additionalProperties": false, "required": ["name", "in", "schema"], "properties": {
      "name": {"type": "string"}, "in": {"enum": ["path", "query", "header"]}, "description": {"type": "string"},
      "required": {"type": "boolean"}, "schema": {"$ref": "#/$defs/schema"}},
    "if": {"properties": {"in": {"const": "path"}}}, "then": {"required": ["required"], "properties": {"required": {"const": true}}}},
  "operation": {"type": "object", "additionalProperties": false, "required": ["operationId", "summary", "tags", "responses", "security"],
    "patternProperties": {"^x-": true},
    "properties": {
      "operationId": {"type": "string", "pattern": "^[a-z][A-Za-z]+$"}, "summary": {"type": "string", "minLength": 1},
      "tags": {"type": "array", "items": {"type": "string"}, "minItems": 1},
      "parameters": {"type": "array", "items": {"$ref": "#/$defs/parameter"}},
      "requestBody": {"type": "object", "additionalProperties": false, "required": ["content"], "properties": {
        "required": {"type": "boolean"}, "content": {"$ref": "#/$defs/content"}}},
      "responses": {"type": "object", "additionalProperties": false, "required": ["default"],
        "patternProperties": {"^([1-5][0-9][0-9]|default)$": {"$ref": "#/$defs/response"}}},
      "security": {"type": "array", "items": {"type": "object"}}}}
}}`

// The document is one of OpenAPI 3.1, and its schemas are schemas.
func TestStructure(t *testing.T) {
	c := jsonschema.NewCompiler()
	rules, err := jsonschema.UnmarshalJSON(bytes.NewReader([]byte(structure)))
	if err == nil {
		err = c.AddResource("structure.json", rules)
	}
	if err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile("structure.json")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(api.OpenAPI))
	if err != nil {
		t.Fatal(err)
	}
	if err := schema.Validate(doc); err != nil {
		t.Error(err)
	}
	// The rules find what is wrong.
	for _, spoil := range []func(doc map[string]any){
		func(doc map[string]any) { delete(doc, "info") },
		func(doc map[string]any) { doc["openapi"] = "3.0.0" },
		func(doc map[string]any) { doc["paths"].(map[string]any)["v1"] = map[string]any{} },
		func(doc map[string]any) {
			health := doc["paths"].(map[string]any)["/healthz"].(map[string]any)["get"].(map[string]any)
			health["respnoses"] = health["responses"]
		},
		func(doc map[string]any) {
			doc["components"].(map[string]any)["schemas"].(map[string]any)["Chain"] = map[string]any{"type": "objekt"}
		},
	} {
		var bad map[string]any
		if err := json.Unmarshal(api.OpenAPI, &bad); err != nil {
			t.Fatal(err)
		}
		spoil(bad)
		if schema.Validate(bad) == nil {
			t.Error("a document that was spoilt is taken")
		}
	}
}

// What is sent is described: a token's secret, the words of a chain's way back,
// quantities as text.
func TestSchemas(t *testing.T) {
	var doc struct {
		Components struct {
			Schemas map[string]struct {
				Properties map[string]struct {
					Type, Description string
					Pattern           string
				}
				Required []string
				OneOf    []map[string]any
			}
		}
	}
	if err := json.Unmarshal(api.OpenAPI, &doc); err != nil {
		t.Fatal(err)
	}
	s := doc.Components.Schemas
	if p := s["Token"].Properties["secret"]; p.Type != "string" || p.Description == "" {
		t.Errorf("secret: %+v", p)
	}
	if p := s["TenantSpec"].Properties["memory"]; p.Type != "string" || p.Pattern == "" || p.Description == "" {
		t.Errorf("memory: %+v", p)
	}
	if len(s["ChainReturn"].OneOf) != 2 {
		t.Errorf("the way back: %+v", s["ChainReturn"])
	}
	if required := s["ChainSpec"].Required; !slices.Equal(required, []string{"functions", "egress"}) {
		t.Errorf("a chain's spec needs %q", required)
	}
	if p := s["Chain"].Properties["apiVersion"]; p.Type != "string" {
		t.Errorf("the parts of all objects are not in a chain: %+v", s["Chain"].Properties)
	}
}
