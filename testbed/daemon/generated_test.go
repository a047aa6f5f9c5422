package daemon

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"sfc/testbed/gate"
)

// The public generator of clients, and what its code imports.
const (
	generator        = "github.com/oapi-codegen/oapi-codegen/v2/cmd/oapi-codegen@v2.8.2"
	generatorRuntime = "github.com/oapi-codegen/runtime@v1.8.0"
)

// A client that a public generator made of the document which the daemon serves
// makes a chain, reads and deletes it.
func TestGeneratedClient(t *testing.T) {
	b := newBed(t)
	b.tenant("acme", 500)
	b.attach("pass")
	document, err := b.api.OpenAPI(t.Context())
	check(t, err)
	program, err := os.ReadFile("testdata/generated/main.go")
	check(t, err)
	dir := t.TempDir()
	check(t, os.Mkdir(filepath.Join(dir, "gen"), 0o755))
	for name, data := range map[string][]byte{"openapi.json": document, "main.go": program, "go.mod": []byte("module generated\n\ngo 1.26\n")} {
		check(t, os.WriteFile(filepath.Join(dir, name), data, 0o644))
	}
	command := func(args ...string) {
		t.Helper()
		cmd := exec.Command(gate.Tool(t, "go"), args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "GOWORK=off")
		out, err := cmd.CombinedOutput()
		if err != nil && unreachable(string(out)) {
			t.Skipf("go %s: the module proxy cannot be reached:\n%s", strings.Join(args, " "), out)
		}
		if err != nil {
			t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	command("run", generator, "-generate", "types,client", "-package", "gen", "-o", "gen/gen.go", "openapi.json")
	command("get", generatorRuntime)
	command("build", "-o", "client", ".")
	cmd := exec.Command(filepath.Join(dir, "client"), filepath.Join(b.dir, "s"), "acme")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("the client: %v\n%s", err, out)
	}
	for _, want := range []string{"created edge, generation 1", "read edge, egress out", "refused: 404 NotFound", "deleted edge"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("%q is not in what it said:\n%s", want, out)
		}
	}
}

// unreachable says whether what the go command wrote is about the network.
func unreachable(out string) bool {
	for _, sign := range []string{"dial tcp", "no such host", "module lookup disabled", "i/o timeout", "connection refused", "TLS handshake timeout"} {
		if strings.Contains(out, sign) {
			return true
		}
	}
	return false
}
