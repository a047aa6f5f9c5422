package compile

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"sfc/ctrl/ipc"
	"sfc/nf/wasm"
	"sfc/testbed/gate"
)

// TestMain is also the compiler's children.
func TestMain(m *testing.M) {
	switch os.Getenv("COMPILE_CHILD") {
	case "compile":
		if err := Child(context.Background(), os.Args[len(os.Args)-1], os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	case "lie": // a compiler that was taken over by its input
		os.NewFile(outFD, "artifact").WriteAt(bytes.Repeat([]byte("x"), 4096), 0)
		fmt.Println(`{"Size":4096}`)
		return
	case "intrude":
		if err := Child(context.Background(), "{}", io.Discard); err != nil {
			os.Exit(1)
		}
		unix.Exec("/bin/true", []string{"true"}, nil)
		return
	}
	os.Exit(gate.Main(m))
}

func as(role string) func() *exec.Cmd {
	return func() *exec.Cmd {
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = append(os.Environ(), "COMPILE_CHILD="+role)
		return cmd
	}
}

// catalogue returns a module of the catalogue.
func catalogue(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "..", "nf", "catalog", name, name+".wasm"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func digest(module []byte) string {
	sum := sha256.Sum256(module)
	return hex.EncodeToString(sum[:])
}

// artifact compiles a module and returns what came out.
func artifact(t *testing.T, c *Compiler, module []byte) (*wasm.Artifact, error) {
	t.Helper()
	f, err := c.Artifact(t.Context(), digest(module), func(context.Context) (io.Reader, error) { return bytes.NewReader(module), nil })
	if err != nil {
		return nil, err
	}
	defer f.Close()
	code, err := ipc.ReadMemfd(f, wasm.MaxArtifact)
	if err != nil {
		t.Fatal(err)
	}
	a, err := wasm.DecodeArtifact(code)
	if err != nil {
		t.Fatal(err)
	}
	return a, nil
}

// unread is an Open that must not be called.
func unread(context.Context) (io.Reader, error) { return nil, errors.New("the module was asked for") }
