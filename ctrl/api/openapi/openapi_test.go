package openapi_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"regexp"
	"strings"
	"testing"

	"sfc/ctrl/api"
	"sfc/ctrl/api/openapi"
)

var update = flag.Bool("update", false, "write the document where it is committed")

// committed are the document, which docs/openapi.json links to, and the
// reference.
const (
	committed = "../openapi.json"
	reference = "../../../docs/api.md"
)

func TestFresh(t *testing.T) {
	doc, err := openapi.Document("..")
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := errors.Join(os.WriteFile(committed, doc, 0o644), os.WriteFile(reference, openapi.Reference(), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	for file, want := range map[string][]byte{committed: doc, "../../../docs/openapi.json": doc, reference: openapi.Reference()} {
		have, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(have, want) {
			t.Errorf("%s is not what the sources say: go generate ./ctrl/api", file)
		}
	}
}

// Every route is in the document, and nothing else is.
func TestRoutes(t *testing.T) {
	var doc struct {
		Paths map[string]map[string]struct {
			OperationID string `json:"operationId"`
			Parameters  []struct{ Name, In string }
			Responses   map[string]any
		}
	}
	if err := json.Unmarshal(api.OpenAPI, &doc); err != nil && !*update {
		t.Fatal(err)
	}
	operations := 0
	for _, methods := range doc.Paths {
		operations += len(methods)
	}
	routes := api.Routes()
	if operations != len(routes) {
		t.Errorf("%d operations, %d routes", operations, len(routes))
	}
	seen := map[string]bool{}
	for _, r := range routes {
		op, ok := doc.Paths[r.Path][strings.ToLower(r.Method)]
		if !ok || op.OperationID != r.Operation {
			t.Errorf("%s %s: %+v", r.Method, r.Path, op)
		}
		if seen[r.Operation] {
			t.Errorf("operation %s is there twice", r.Operation)
		}
		seen[r.Operation] = true
		for _, m := range regexp.MustCompile(`\{(\w+)\}`).FindAllStringSubmatch(r.Path, -1) {
			found := false
			for _, p := range op.Parameters {
				found = found || p.Name == m[1] && p.In == "path"
			}
			if !found {
				t.Errorf("%s: the path's %s is no parameter", r.Operation, m[1])
			}
		}
	}
}

// Every reference leads somewhere, and every component is referred to.
func TestReferences(t *testing.T) {
	var doc struct {
		Components struct{ Schemas, Responses map[string]any }
	}
	if err := json.Unmarshal(api.OpenAPI, &doc); err != nil {
		t.Fatal(err)
	}
	used := map[string]bool{}
	for _, m := range regexp.MustCompile(`"\$ref": "#/components/(\w+)/(\w+)"`).FindAllSubmatch(api.OpenAPI, -1) {
		kind, name := string(m[1]), string(m[2])
		used[name] = true
		if kind == "schemas" && doc.Components.Schemas[name] == nil || kind == "responses" && doc.Components.Responses[name] == nil {
			t.Errorf("%s %s is not there", kind, name)
		}
	}
	for name := range doc.Components.Schemas {
		if !used[name] {
			t.Errorf("nothing refers to %s", name)
		}
	}
	if len(used) < 30 {
		t.Errorf("only %d components", len(used))
	}
}
