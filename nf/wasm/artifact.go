package wasm

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
)

// Artifact is a compiled module: everything that a process without a compiler
// needs to run it.
//
// Its code is machine code. Whoever loads an artifact trusts who made it and
// every hand it went through: nothing in it says who that was, and the sum in
// its encoding finds damage, not malice. Never load what a tenant could have
// written.
type Artifact struct {
	// Wasm is the module as its author built it. What the engine knows of the
	// function, it reads from here.
	Wasm []byte
	// Code is what Wasmtime's compiler made of it, serialized.
	Code []byte
	// Target is what Code was compiled for.
	Target Target
}

// An encoded artifact, numbers little-endian:
//
//	0   8   "SFCCODE1", the last character being the version
//	8   4   bytes of the target, JSON
//	12  4   bytes of the module
//	16  4   bytes of the code
//	20  32  SHA-256 of everything else, in its order
//	52      target, module, code
const (
	artifactMagic = "SFCCODE1"
	artifactSum   = 20
	artifactHead  = artifactSum + sha256.Size
	// maxTarget and MaxArtifact bound what is read, in bytes.
	maxTarget = 4096
)

// MaxArtifact is the largest artifact in bytes, encoded.
const MaxArtifact = 256 << 20

// ErrArtifact: the bytes are no artifact, or a damaged one.
var ErrArtifact = errors.New("not a compiled module")

// Encode returns the artifact as bytes for DecodeArtifact.
func (a *Artifact) Encode() ([]byte, error) {
	target, err := json.Marshal(a.Target)
	if err != nil {
		return nil, fmt.Errorf("target of a compiled module: %w", err)
	}
	size := artifactHead + len(target) + len(a.Wasm) + len(a.Code)
	if len(target) > maxTarget || size > MaxArtifact {
		return nil, fmt.Errorf("compiled module of %d bytes, target %d: at most %d and %d can be kept", size, len(target), MaxArtifact, maxTarget)
	}
	b := make([]byte, artifactSum, size)
	copy(b, artifactMagic)
	binary.LittleEndian.PutUint32(b[8:], uint32(len(target)))
	binary.LittleEndian.PutUint32(b[12:], uint32(len(a.Wasm)))
	binary.LittleEndian.PutUint32(b[16:], uint32(len(a.Code)))
	h := sha256.New()
	for _, part := range [][]byte{b, target, a.Wasm, a.Code} {
		h.Write(part)
	}
	b = h.Sum(b)
	for _, part := range [][]byte{target, a.Wasm, a.Code} {
		b = append(b, part...)
	}
	return b, nil
}

// DecodeArtifact reads what Encode wrote, whatever it was compiled for: that is
// for [Runtime.Load] to judge. The artifact's bytes are b's: nobody may change b
// as long as it is used, so take those of a file that can be written from a copy
// or from a sealed memfd. Errors wrap ErrArtifact.
func DecodeArtifact(b []byte) (*Artifact, error) {
	if len(b) < artifactHead || len(b) > MaxArtifact {
		return nil, fmt.Errorf("%w: %d bytes, want %d to %d", ErrArtifact, len(b), artifactHead, MaxArtifact)
	}
	if magic := string(b[:8]); magic != artifactMagic {
		return nil, fmt.Errorf("%w: it begins with %q, want %q: compile the module again", ErrArtifact, magic, artifactMagic)
	}
	target, module, code := binary.LittleEndian.Uint32(b[8:]), binary.LittleEndian.Uint32(b[12:]), binary.LittleEndian.Uint32(b[16:])
	if total := artifactHead + uint64(target) + uint64(module) + uint64(code); total != uint64(len(b)) || target > maxTarget {
		return nil, fmt.Errorf("%w: parts of %d, %d and %d bytes do not make %d", ErrArtifact, target, module, code, len(b))
	}
	h := sha256.New()
	h.Write(b[:artifactSum])
	h.Write(b[artifactHead:])
	if sum := b[artifactSum:artifactHead]; !bytes.Equal(h.Sum(nil), sum) {
		return nil, fmt.Errorf("%w: damaged, its sum is not %x: compile the module again", ErrArtifact, sum[:8])
	}
	rest := b[artifactHead:]
	a := new(Artifact)
	a.Wasm = rest[target : target+module : target+module]
	a.Code = rest[target+module:]
	if err := json.Unmarshal(rest[:target], &a.Target); err != nil {
		return nil, fmt.Errorf("%w: its target: %w", ErrArtifact, err)
	}
	return a, nil
}
