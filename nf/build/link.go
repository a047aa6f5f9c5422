package build

import (
	"fmt"
	"os/exec"

	"sfc/nf"
)

// stackBytes is the size of a module's stack.
const stackBytes = 64 << 10

// linkFlags put a module's memory where the ABI wants it: nothing below
// nf.DataStart, at most the default limit above. The size the module starts with is what
// its data, stack and static heap need.
func linkFlags() []string {
	most := nf.DataStart + nf.Limits{}.WithDefaults().PrivateBytes
	return []string{
		"--no-entry", "--strip-all", "--gc-sections", "--fatal-warnings",
		fmt.Sprintf("--global-base=%d", nf.DataStart),
		fmt.Sprintf("--max-memory=%d", most),
		"-z", fmt.Sprintf("stack-size=%d", stackBytes),
	}
}

// tools are the programs a build needs.
type tools struct{ clang, wasmLD string }

// versions are tried in order: the one that the committed modules were made
// with, then newer, then older ones down to the oldest that works.
var versions = []string{"-19", "", "-22", "-21", "-20", "-18", "-17", "-16", "-15", "-14"}

func findTools() (tools, error) {
	var t tools
	for _, v := range versions {
		clang, err1 := exec.LookPath("clang" + v)
		ld, err2 := exec.LookPath("wasm-ld" + v)
		if err1 == nil && err2 == nil {
			return tools{clang, ld}, nil
		}
		if err1 == nil && t.clang == "" {
			t.clang = clang
		}
		if err2 == nil && t.wasmLD == "" {
			t.wasmLD = ld
		}
	}
	switch {
	case t.clang == "":
		return tools{}, fmt.Errorf("clang not found: %w", ErrNoCompiler)
	case t.wasmLD == "":
		return tools{}, fmt.Errorf("wasm-ld not found: %w", ErrNoCompiler)
	}
	return t, nil
}

func findClang() (string, error) {
	for _, v := range versions {
		if path, err := exec.LookPath("clang" + v); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("clang not found: %w", ErrNoCompiler)
}
