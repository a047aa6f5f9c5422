package api

import (
	"encoding/json"
	"time"
)

// Function is a version of a function: a Wasm module that never changes.
type Function struct {
	Type `json:",inline"`
	// Metadata's name is the function's; spec.version tells versions apart.
	Metadata Metadata       `json:"metadata"`
	Spec     FunctionSpec   `json:"spec"`
	Status   FunctionStatus `json:"status,omitzero"`
}

// FunctionSpec is what is known of a module. The server finds it out.
type FunctionSpec struct {
	// Version is a semantic version.
	Version string `json:"version"`
	// Digest is the module's: sha256: and 64 hexadecimal digits.
	Digest string `json:"digest"`
	// ManifestDigest is that of the module's manifest section. Signatures speak of
	// both digests.
	ManifestDigest string `json:"manifestDigest,omitzero"`
	// Size of the module in bytes.
	Size int64 `json:"size"`
	// Manifest is what the module says about itself.
	Manifest ManifestSummary `json:"manifest"`
	// Signature by one of the tenant's keys.
	Signature *Signature `json:"signature,omitzero"`
	// Provenance is where the module came from.
	Provenance Provenance `json:"provenance"`
}

// ManifestSummary is what a module says about itself.
type ManifestSummary struct {
	Name           string          `json:"name"`
	Version        string          `json:"version"`
	ABI            int             `json:"abi"`
	FlowStateBytes int             `json:"flowStateBytes,omitzero"`
	BothDirections bool            `json:"bothDirections,omitzero"`
	LiveConfigure  bool            `json:"liveConfigure,omitzero"`
	Capabilities   []string        `json:"capabilities,omitzero"`
	Counters       []string        `json:"counters,omitzero"`
	DropReasons    []string        `json:"dropReasons,omitzero"`
	ConfigSchema   json.RawMessage `json:"configSchema,omitzero"`
}

// Signature is an ed25519 signature over the module's digest and manifest.
type Signature struct {
	// Key is the name of the tenant's key that it was verified with.
	Key string `json:"key"`
	// Value is the signature: 64 bytes in base64.
	Value string `json:"value"`
}

// Provenance is where a module came from.
type Provenance struct {
	// Source is what the uploader said: a file, a repository, an OCI reference.
	Source string `json:"source,omitzero"`
	// UploadedBy is who, as in the audit log.
	UploadedBy string    `json:"uploadedBy"`
	UploadedAt time.Time `json:"uploadedAt"`
	// BuiltWith are the tools that the module says it was built with.
	BuiltWith []string `json:"builtWith,omitzero"`
}

// FunctionStatus is how a version is used.
type FunctionStatus struct {
	// Aliases that point to it.
	Aliases []string `json:"aliases,omitzero"`
	// Conditions: Ready says that it is compiled.
	Conditions Conditions `json:"conditions,omitzero"`
}

// Alias is a name for a version, which chains follow when it moves.
type Alias struct {
	Type `json:",inline"`
	// Metadata's name is the alias's, such as prod.
	Metadata Metadata    `json:"metadata"`
	Spec     AliasSpec   `json:"spec"`
	Status   AliasStatus `json:"status,omitzero"`
}

// AliasSpec is what an alias stands for.
type AliasSpec struct {
	// Function that it is an alias of; the path says it.
	Function string `json:"function,omitzero"`
	// Version that it stands for.
	Version string `json:"version"`
	// Canary is a version that some of the flows meet.
	Canary *Canary `json:"canary,omitzero"`
}

// Canary is a version under trial.
type Canary struct {
	Version string `json:"version"`
	// Percent of the flows that meet it, 1 to 99.
	Percent int `json:"percent" minimum:"1" maximum:"99"`
}

// AliasStatus is what an alias stood for.
type AliasStatus struct {
	// Digest of the version.
	Digest string `json:"digest,omitzero"`
	// History of what it stood for, the latest first, at most 20.
	History    []AliasMove `json:"history,omitzero"`
	Conditions Conditions  `json:"conditions,omitzero"`
}

// AliasMove is what an alias stood for from some time on.
type AliasMove struct {
	Version string    `json:"version"`
	Canary  *Canary   `json:"canary,omitzero"`
	At      time.Time `json:"at"`
	By      string    `json:"by"`
}

// Header implements Object.
func (o *Function) Header() (*Type, *Metadata) { return &o.Type, &o.Metadata }

// Header implements Object.
func (o *Alias) Header() (*Type, *Metadata) { return &o.Type, &o.Metadata }

// KindName implements Object.
func (o *Function) KindName() string { return "Function" }

// KindName implements Object.
func (o *Alias) KindName() string { return "Alias" }
