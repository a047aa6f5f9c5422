package build

import (
	"encoding/binary"
	"fmt"
	"os/exec"
)

const (
	// manifestSection is nf.ManifestSection: this package knows the ABI only
	// through the SDK's headers, except for what the linker must be told.
	manifestSection = "sfc.manifest"
	dataStart       = 0x1000_0000
	privateMax      = 16 << 20
	stackBytes      = 64 << 10
)

// linkFlags put a module's memory where the ABI wants it: nothing below
// dataStart, at most privateMax above. The size the module starts with is what
// its data, stack and static heap need.
func linkFlags() []string {
	return []string{
		"--no-entry", "--strip-all", "--gc-sections", "--fatal-warnings",
		fmt.Sprintf("--global-base=%d", dataStart),
		fmt.Sprintf("--max-memory=%d", dataStart+privateMax),
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

// appendSection adds a custom section (WebAssembly core specification, 5.5.3)
// to the end of a module.
func appendSection(module []byte, name string, body []byte) []byte {
	content := binary.AppendUvarint(nil, uint64(len(name)))
	content = append(content, name...)
	content = append(content, body...)
	module = append(module, 0)
	module = binary.AppendUvarint(module, uint64(len(content)))
	return append(module, content...)
}
