package chains

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// A file and its document ask for the same chain.
func TestDocumentAsksForTheSame(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "fw.json"), []byte(`{"default": "deny"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "edge.yaml")
	text := `
apiVersion: sfc/v1
kind: Chain
metadata: {name: edge, tenant: acme}
spec:
  priority: 7
  match:
    - {port: in, protocol: tcp, dstPorts: 1024-2047, src: 10.0.0.0/8}
  egress: out
  return: mirrored
  budget: 2ms
  unmatched: forward
  functions:
    - {module: fw.wasm, configFile: fw.json}
    - {module: stat@prod, fault: open, config: {n: 1.5, list: [a, 2]}}
`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	want, err := Load(file)
	if err != nil {
		t.Fatal(err)
	}
	var asked []string
	doc, err := Document(file, []byte(text), func(said, path string) (string, error) {
		asked = append(asked, said+" "+path)
		return strings.TrimSuffix(said, ".wasm") + "@1.0.0", nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(asked, []string{"fw.wasm " + filepath.Join(dir, "fw.wasm"), "stat@prod " + filepath.Join(dir, "stat@prod")}) {
		t.Errorf("asked for %q", asked)
	}
	got, err := Parse("", doc)
	if err != nil {
		t.Fatalf("%v in %s", err, doc)
	}
	want.Functions[0].Module, want.Functions[0].ConfigFile, want.Functions[1].Module = "fw@1.0.0", "", "stat@prod@1.0.0"
	if want.Functions[1].Name != "stat" || !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	var parts struct{ Spec map[string]json.RawMessage }
	if err := json.Unmarshal(doc, &parts); err != nil || len(parts.Spec) != 7 {
		t.Errorf("%v, %s", err, doc)
	}
}

func TestDocumentRefusals(t *testing.T) {
	bad := errors.New("not in the store")
	const head = "apiVersion: sfc/v1\nkind: Chain\nmetadata: {name: a, tenant: b}\nspec:\n  egress: out\n  functions:\n"
	for _, tt := range []struct{ text, want string }{
		{"junk", "a.yaml:1"},
		{head + "  - {module: x.wasm, typo: 1}\n", "typo"},
		{head + "  - {module: x.wasm}\n", bad.Error()},
		{head + "  - {module: x.wasm, configFile: /none.json}\n", "/none.json"},
	} {
		_, err := Document("a.yaml", []byte(tt.text), func(string, string) (string, error) { return "", bad })
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q: %v, want %q", tt.text, err, tt.want)
		}
	}
}
