// Package build turns a folder with a function's C sources and manifest.json
// into one .wasm, and makes such folders ([New]).
package build

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"

	"sfc/nf"
	sdk "sfc/nf/sdk/c"
)

// Errors returned by [Build] and [New].
var (
	// ErrNoCompiler means that clang or wasm-ld is missing.
	ErrNoCompiler = errors.New("no C compiler for Wasm; apt-get install clang-19 lld-19 gives one")
	// ErrNoSource means that the folder holds no *.c.
	ErrNoSource = errors.New("no *.c file")
	// ErrBadName means that a function's name is not usable.
	ErrBadName = errors.New("a name has 1 to 32 of a-z, 0-9 and -, the first a letter and the last no hyphen")
	// ErrExists means that the folder to create is there already.
	ErrExists = errors.New("exists already; choose another name or remove it")
)

var validName = regexp.MustCompile(`^[a-z]([a-z0-9-]{0,30}[a-z0-9])?$`)

// wasmFlags make a module for the engine's Wasm runtime: every feature named is
// one it has, so that builds with newer compilers do not drift to more.
var wasmFlags = []string{
	"--target=wasm32-unknown-unknown", "-mcpu=mvp", "-mbulk-memory", "-msign-ext",
	"-mnontrapping-fptoint", "-mmutable-globals", "-mmultivalue", "-msimd128",
	"-nostdlibinc",
}

// commonFlags hold for the native build too, so that the two compare.
// Strict aliasing is off: packets are bytes. So is the vectorizer of straight-line
// code: it turns table look-ups into lane extractions (acl of 100 rules: 41 -> 26 ns).
var commonFlags = []string{
	"-std=gnu11", "-O3", "-Wall", "-Wextra", "-Werror", "-fno-strict-aliasing",
	"-fno-slp-vectorize", "-fno-ident", "-fvisibility=hidden", "-g0",
}

// Build compiles every *.c in dir with the SDK, adds manifest.json as the custom
// section, checks the module as a deployment would, and writes dir/NAME.wasm,
// where NAME is the manifest's. Equal input and compiler give equal bytes. It
// returns the file's path.
func Build(dir string) (path string, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("build %s: %w", dir, err)
		}
	}()
	tools, err := findTools()
	if err != nil {
		return "", err
	}
	name, manifest, err := readManifest(dir)
	if err != nil {
		return "", err
	}
	tmp, err := os.MkdirTemp("", "sfc-build-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(tmp)

	objects, err := compile(tools.clang, dir, tmp, wasmFlags)
	if err != nil {
		return "", err
	}
	linked := filepath.Join(tmp, "linked.wasm")
	if err := run(tools.wasmLD, append(linkFlags(), append(objects, "-o", linked)...)...); err != nil {
		return "", fmt.Errorf("link: %w", err)
	}
	module, err := os.ReadFile(linked)
	if err != nil {
		return "", fmt.Errorf("link: %w", err)
	}
	if module, err = nf.AppendManifest(module, manifest); err != nil {
		return "", err
	}
	if err := check(module); err != nil {
		return "", fmt.Errorf("compiled, but the engine would refuse it: %w", err)
	}
	path = filepath.Join(dir, name+".wasm")
	if err := os.WriteFile(path, module, 0o644); err != nil {
		return "", err
	}
	return path, nil
}

// check runs the checks of a deployment, with default limits.
func check(module []byte) error {
	m, err := nf.Inspect(module)
	if err != nil {
		return err
	}
	return nf.Check(m, nf.Limits{})
}

// nativeHost is what whoever loads a native build fills in: where guest address
// 0 lies, and what the imports do.
const nativeHost = `#include "sfc_emit.h"
#include "sfc_flow.h"
uint8_t *sfc_base;
struct sfc_host sfc_host;
struct sfc_sink sfc_sink;
`

// headersDir is where compile puts the SDK's headers.
const headersDir = "include"

// Native compiles every *.c in dir for this machine into the shared library out,
// with the flags of [Build]: the yardstick of the Wasm build. extra are further
// compiler flags, such as -fsanitize=address.
func Native(dir, out string, extra ...string) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("build %s: %w", dir, err)
		}
	}()
	clang, err := findClang()
	if err != nil {
		return err
	}
	tmp, err := os.MkdirTemp("", "sfc-build-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	flags := append([]string{"-DSFC_NATIVE", "-march=native", "-fPIC"}, extra...)
	objects, err := compile(clang, dir, tmp, flags)
	if err != nil {
		return err
	}
	base := filepath.Join(tmp, "base.c")
	if err := os.WriteFile(base, []byte(nativeHost), 0o644); err != nil {
		return err
	}
	args := append([]string{"-shared", "-fPIC", "-DSFC_NATIVE", "-I", filepath.Join(tmp, headersDir), "-o", out, base}, extra...)
	if err := run(clang, append(args, objects...)...); err != nil {
		return fmt.Errorf("link: %w", err)
	}
	return nil
}

// compile writes the SDK's headers and one object per source into tmp and
// returns the objects' paths.
func compile(clang, dir, tmp string, flags []string) ([]string, error) {
	sources, err := filepath.Glob(filepath.Join(dir, "*.c"))
	if err != nil || len(sources) == 0 {
		return nil, errors.Join(ErrNoSource, err)
	}
	slices.Sort(sources)
	headers := filepath.Join(tmp, headersDir)
	if err := os.CopyFS(headers, sdk.Headers); err != nil {
		return nil, fmt.Errorf("unpack the SDK's headers: %w", err)
	}
	var objects []string
	for _, src := range sources {
		obj := filepath.Join(tmp, filepath.Base(src)+".o")
		args := slices.Concat(commonFlags, flags, []string{"-I", headers, "-c", src, "-o", obj})
		if err := run(clang, args...); err != nil {
			return nil, fmt.Errorf("compile %s: %w", src, err)
		}
		objects = append(objects, obj)
	}
	return objects, nil
}

// readManifest returns the function's name and its manifest, compacted.
func readManifest(dir string) (name string, manifest []byte, err error) {
	path := filepath.Join(dir, "manifest.json")
	text, err := os.ReadFile(path)
	if err != nil {
		return "", nil, fmt.Errorf("read the manifest: %w; sfcctl nf new makes a folder to start from", err)
	}
	var head struct {
		Name string `json:"name"`
	}
	if err := json.Unmarshal(text, &head); err != nil {
		return "", nil, fmt.Errorf("%s: %w", path, err)
	}
	if !validName.MatchString(head.Name) {
		return "", nil, fmt.Errorf("%s: name %q: %w", path, head.Name, ErrBadName)
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, text); err != nil {
		return "", nil, fmt.Errorf("%s: %w", path, err)
	}
	return head.Name, compact.Bytes(), nil
}

// run runs a tool; its error carries what the tool said.
func run(tool string, args ...string) error {
	out, err := exec.Command(tool, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", filepath.Base(tool), err, bytes.TrimSpace(out))
	}
	return nil
}
