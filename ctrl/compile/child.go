package compile

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"time"

	"golang.org/x/sys/unix"

	"sfc/ctrl/confine"
	"sfc/ctrl/ipc"
	"sfc/nf"
	"sfc/nf/wasm"
)

// Descriptors of a child.
const (
	inFD    = 3 // the module, a sealed memfd
	outFD   = 4 // an empty memfd for the artifact
	lifeFD  = 5 // a pipe that ends with the parent
	tempMax = wasm.MaxArtifact
)

// order is what a child is told, as its argument.
type order struct {
	Limits      nf.Limits
	CPU         time.Duration
	MemoryBytes int64
}

// result is what a child says on standard output.
type result struct {
	Size    int64  `json:",omitzero"` // of the artifact
	Refused string `json:",omitzero"`
}

// Child compiles one module, as its parent has ordered in text. It is all that
// the process does.
func Child(ctx context.Context, text string, out io.Writer) error {
	var o order
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		return fmt.Errorf("order: %w: children of the compiler are started by sfcd, not by hand", err)
	}
	in, artifact, life := os.NewFile(inFD, "module"), os.NewFile(outFD, "artifact"), os.NewFile(lifeFD, "life")
	go func() {
		life.Read(make([]byte, 1)) // ends when the parent does
		os.Exit(1)
	}()
	l := confine.Limits{Files: 64, CPU: o.CPU, Data: uint64(o.MemoryBytes), FileSize: tempMax}
	if err := confine.Seal(confine.Compile(), l); err != nil {
		return err
	}
	debug.SetMemoryLimit(o.MemoryBytes / 2)
	r, err := build(ctx, in, artifact, o.Limits)
	if err != nil {
		r = result{Refused: err.Error()}
	}
	return json.NewEncoder(out).Encode(r)
}

func build(ctx context.Context, in, out *os.File, l nf.Limits) (r result, err error) {
	module, err := ipc.ReadMemfd(in, int64(l.WithDefaults().ModuleBytes))
	if err != nil {
		return r, err
	}
	a, err := wasm.Build(ctx, module, l)
	if err != nil {
		return r, err
	}
	encoded, err := a.Encode()
	if err != nil {
		return r, err
	}
	if len(encoded) > tempMax {
		return r, fmt.Errorf("artifact of %d bytes: at most %d", len(encoded), tempMax)
	}
	n, err := out.WriteAt(encoded, 0)
	if err != nil && !errors.Is(err, unix.EFBIG) {
		return r, err
	}
	return result{Size: int64(n)}, err
}
