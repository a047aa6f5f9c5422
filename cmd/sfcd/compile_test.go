package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"sfc/ctrl/compile"
	"sfc/ctrl/confine"
	"sfc/testbed/gate"
)

// Compilers are started by a control that is confined: they have its filter from
// their first instruction, and add their own.
func TestConfinedControlCompiles(t *testing.T) {
	gate.Root(t)
	cmd := exec.Command("/proc/self/exe", confinedControl)
	module, err := filepath.Abs(filepath.Join("..", "..", "nf", "catalog", "acl", "acl.wasm"))
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(module)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	cmd.Stdin = file
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := confine.Start(cmd, &confine.Identity{UID: 65534, GID: 65534}); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil || !bytes.HasPrefix(out.Bytes(), []byte("compiled")) {
		t.Errorf("%v: %s", err, &out)
	}
}

// confinedControl is the argument that makes the test binary a control that
// compiles what it reads.
const confinedControl = "confined-control"

func compileConfined() error {
	if err := confine.Seal(confine.Control(), confine.Limits{}); err != nil {
		return err
	}
	module, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	c, err := compile.New(compile.Options{Command: compilerCommand})
	if err != nil {
		return err
	}
	sum := sha256.Sum256(module)
	f, err := c.Artifact(context.Background(), hex.EncodeToString(sum[:]), func(context.Context) (io.Reader, error) { return bytes.NewReader(module), nil })
	if err != nil {
		return err
	}
	defer f.Close()
	fmt.Println("compiled")
	return nil
}
