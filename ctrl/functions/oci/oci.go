// Package oci pushes modules to and pulls them from OCI registries, in the
// layout that the CNCF agreed on for Wasm (TAG Runtime, "Wasm OCI Artifact
// layout"): an image manifest with a config of type
// application/vnd.wasm.config.v0+json and one layer of type application/wasm,
// which is the module as it is.
//
// A signature goes with it as an annotation of the manifest. It speaks of the
// module, not of the manifest, so that it holds wherever the module is copied.
//
// What a registry sends is not trusted: sizes are bounded before and while they
// are read, every blob must have the digest that the manifest says, and the
// manifest the digest that the reference says or the registry announces.
package oci

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/registry"

	"sfc/ctrl/functions/sign"
)

// Media types and annotations.
const (
	// ConfigType is that of the config, by which tools know a Wasm artifact.
	ConfigType = "application/vnd.wasm.config.v0+json"
	// LayerType is that of the module.
	LayerType = "application/wasm"
	// SignatureAnnotation holds signatures as [sign.Signature] has them as text,
	// separated by white space.
	SignatureAnnotation = "sfc.function.signature.v1"
)

// Errors of this package. What a registry answers is in the text.
var (
	// ErrReference says that a reference is not one, or may not be used.
	ErrReference = errors.New("bad reference")
	// ErrArtifact says that what is there is no Wasm artifact, or not what its
	// digests say.
	ErrArtifact = errors.New("not a Wasm artifact")
	// ErrTooLarge says that an artifact is larger than allowed.
	ErrTooLarge = errors.New("too large")
	// ErrForbidden says that a host may not be asked.
	ErrForbidden = errors.New("registry not allowed")
	// ErrRegistry says that a registry refused or could not be reached.
	ErrRegistry = errors.New("registry")
)

// Artifact is a module with what goes along.
type Artifact struct {
	Module []byte
	// Name and Version are what the function is called; they become the title
	// and version annotations.
	Name, Version string
	// Signatures of the module. A pulled one was not verified: whose keys are
	// trusted is for the tenant to say.
	Signatures []sign.Signature
}

// Pulled is an artifact from a registry.
type Pulled struct {
	Artifact
	// Reference is registry/repository@sha256:..., which always means the same.
	Reference string
}

// config is the content of the config blob.
type config struct {
	Created      time.Time `json:"created"`
	Author       *string   `json:"author"`
	Architecture string    `json:"architecture"`
	// OS is wasip1 for every core module, also one that asks nothing of WASI:
	// the layout has no other word for it.
	OS           string          `json:"os"`
	LayerDigests []string        `json:"layerDigests"`
	Component    json.RawMessage `json:"component"`
}

// pack makes the three parts of an artifact. It is the same for the same
// artifact: no clock is in it.
func pack(a *Artifact) (manifest, conf, layer blob, err error) {
	layer = newBlob(LayerType, a.Module)
	text, err := json.Marshal(config{
		Created: time.Unix(0, 0).UTC(), Architecture: "wasm", OS: "wasip1",
		LayerDigests: []string{layer.desc.Digest.String()}, Component: json.RawMessage("null"),
	})
	if err != nil {
		return manifest, conf, layer, err
	}
	conf = newBlob(ConfigType, text)
	annotations := map[string]string{}
	for key, value := range map[string]string{ocispec.AnnotationTitle: a.Name, ocispec.AnnotationVersion: a.Version} {
		if value != "" {
			annotations[key] = value
		}
	}
	if len(a.Signatures) > 0 {
		lines := make([]string, len(a.Signatures))
		for i, s := range a.Signatures {
			lines[i] = s.String()
		}
		annotations[SignatureAnnotation] = strings.Join(lines, " ")
	}
	text, err = json.Marshal(ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Config: conf.desc, Layers: []ocispec.Descriptor{layer.desc}, Annotations: annotations,
	})
	return newBlob(ocispec.MediaTypeImageManifest, text), conf, layer, err
}

// unpack reads a manifest and says which blob is the module.
func unpack(text []byte) (a Artifact, layer ocispec.Descriptor, err error) {
	var m ocispec.Manifest
	switch err := json.Unmarshal(text, &m); {
	case err != nil:
		return a, layer, fmt.Errorf("%w: its manifest: %w", ErrArtifact, err)
	case m.MediaType != "" && m.MediaType != ocispec.MediaTypeImageManifest:
		return a, layer, fmt.Errorf("%w: it is a %.100q: give the reference of one artifact", ErrArtifact, m.MediaType)
	case m.Config.MediaType != ConfigType:
		return a, layer, fmt.Errorf("%w: its config is %.100q, not %s: push it as Wasm", ErrArtifact, m.Config.MediaType, ConfigType)
	case len(m.Layers) != 1:
		return a, layer, fmt.Errorf("%w: it has %d layers, one is a function", ErrArtifact, len(m.Layers))
	case m.Layers[0].MediaType != LayerType:
		return a, layer, fmt.Errorf("%w: its layer is %.100q, not %s", ErrArtifact, m.Layers[0].MediaType, LayerType)
	case m.Layers[0].Size < 0 || m.Layers[0].Digest.Validate() != nil || m.Layers[0].Digest.Algorithm() != "sha256":
		return a, layer, fmt.Errorf("%w: its layer has no sha256 digest and size", ErrArtifact)
	}
	a.Name, a.Version = m.Annotations[ocispec.AnnotationTitle], m.Annotations[ocispec.AnnotationVersion]
	for i, line := range strings.Fields(m.Annotations[SignatureAnnotation]) {
		if i == maxSignatures {
			return a, layer, fmt.Errorf("%w: it has more than %d signatures", ErrArtifact, maxSignatures)
		}
		s, err := sign.Parse(line)
		if err != nil {
			return a, layer, fmt.Errorf("%w: annotation %s: %w", ErrArtifact, SignatureAnnotation, err)
		}
		a.Signatures = append(a.Signatures, s)
	}
	return a, m.Layers[0], nil
}

// maxSignatures is the most signatures of an artifact.
const maxSignatures = 16

// parse reads a reference, registry/repository:tag or registry/repository@digest.
func parse(text string) (registry.Reference, error) {
	ref, err := registry.ParseReference(strings.TrimPrefix(text, "oci://"))
	if err == nil && ref.Reference == "" {
		err = errors.New("a tag or a digest is missing")
	}
	if err != nil {
		return ref, fmt.Errorf("%.200q: %w: %w: write registry.example/firewall:1.2.0 or ...@sha256:DIGEST", text, ErrReference, err)
	}
	return ref, nil
}
