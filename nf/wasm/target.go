package wasm

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/cpu"
)

// wasmtimeVersion is that of the library that this program is linked with; code
// of another one has another layout in memory.
const wasmtimeVersion = "39.0.1"

// settings names what the compiler and the engine that runs the code have to
// agree on: see newCompiler and sfc_engine_new. Give it a new number with every
// change to them.
const settings = "epochs, no memory images, features 1"

// ErrTarget: the code was compiled for another program or another processor.
var ErrTarget = errors.New("code compiled for another target")

// Target is what machine code was compiled for.
type Target struct {
	// Wasmtime is the version of the compiler.
	Wasmtime string `json:"wasmtime"`
	// Platform is operating system and architecture, as Go names them.
	Platform string `json:"platform"`
	// Settings are those of the engine that the code relies on.
	Settings string `json:"settings"`
	// CPU are the features of the processor that the compiler could use, by
	// the names that /proc/cpuinfo has for them, in order.
	CPU []string `json:"cpu"`
}

// ThisTarget is what [Build] compiles for here, and [Runtime.Load] takes.
func ThisTarget() Target {
	t := Target{Wasmtime: wasmtimeVersion, Platform: runtime.GOOS + "/" + runtime.GOARCH, Settings: settings, CPU: []string{}}
	for _, f := range features() {
		if f.has {
			t.CPU = append(t.CPU, f.name)
		}
	}
	return t
}

// Runs reports whether code for t runs here; errors wrap ErrTarget and say what
// is different. A processor that can more than t asks for is no obstacle.
func (t Target) Runs() error { return t.runsOn(ThisTarget()) }

func (t Target) runsOn(here Target) error {
	for _, f := range []struct{ what, is, wants string }{
		{"Wasmtime", t.Wasmtime, here.Wasmtime},
		{"the platform", t.Platform, here.Platform},
		{"engine settings", t.Settings, here.Settings},
	} {
		if f.is != f.wants {
			return fmt.Errorf("%w: it is for %s %q, and this program has %q: compile the module again with this program", ErrTarget, f.what, f.is, f.wants)
		}
	}
	missing := slices.DeleteFunc(slices.Clone(t.CPU), func(name string) bool { return slices.Contains(here.CPU, name) })
	if len(missing) > 0 {
		return fmt.Errorf("%w: this processor lacks %q: compile the module again on this machine", ErrTarget, strings.Join(missing, " "))
	}
	return nil
}

// feature is something that a processor has or has not.
type feature struct {
	name string
	has  bool
}

// features are those that Cranelift looks for on the machine it runs on
// (cranelift-native). Wasmtime checks all of them again when it loads the code;
// these are here for an answer that a person can read.
func features() []feature {
	if runtime.GOARCH == "arm64" {
		a := &cpu.ARM64
		return []feature{{"atomics", a.HasATOMICS}, {"fphp", a.HasFPHP}}
	}
	x := &cpu.X86
	return []feature{
		{"pni", x.HasSSE3}, {"ssse3", x.HasSSSE3}, {"sse4_1", x.HasSSE41}, {"sse4_2", x.HasSSE42}, {"cx16", x.HasCX16},
		{"popcnt", x.HasPOPCNT}, {"avx", x.HasAVX}, {"avx2", x.HasAVX2}, {"fma", x.HasFMA}, {"bmi1", x.HasBMI1}, {"bmi2", x.HasBMI2},
		{"avx512f", x.HasAVX512F}, {"avx512dq", x.HasAVX512DQ}, {"avx512vl", x.HasAVX512VL}, {"avx512vbmi", x.HasAVX512VBMI},
		{"avx512_bitalg", x.HasAVX512BITALG},
	}
}
