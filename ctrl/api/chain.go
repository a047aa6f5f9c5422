package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"time"
)

// Chain is a chain of functions, and which packets pass it.
type Chain struct {
	Type     `json:",inline"`
	Metadata Metadata    `json:"metadata"`
	Spec     ChainSpec   `json:"spec"`
	Status   ChainStatus `json:"status,omitzero"`
}

// ChainSpec is the spec of a chain file, with what only a daemon can do.
type ChainSpec struct {
	// Priority decides between chains that claim the same packet: the higher
	// goes first.
	Priority int `json:"priority,omitzero" minimum:"-1000000" maximum:"1000000"`
	// Match says which packets the chain claims: those of any element. Left
	// out: all IP packets of every port but the egress.
	Match []ChainMatch `json:"match,omitzero"`
	// Functions are passed in this order.
	Functions []ChainFunction `json:"functions"`
	// Egress is the port that packets leave on.
	Egress string `json:"egress"`
	// Return is the way back.
	Return *ChainReturn `json:"return,omitzero"`
	// Addresses that the chain stands for.
	Addresses []ChainAddress `json:"addresses,omitzero"`
	// Budget is the time a function may take per burst, such as 1ms.
	Budget string `json:"budget,omitzero"`
	// Flows is the most flows at a time.
	Flows int `json:"flows,omitzero" minimum:"1" maximum:"4194304"`
	// Unmatched is what becomes of packets that no chain claims, on the ports
	// where this one takes packets in.
	Unmatched string `json:"unmatched,omitzero" enum:"pass,forward,drop"`
	// Drain: take no new flows, let those that are there end.
	Drain bool `json:"drain,omitzero"`
}

// ChainMatch selects packets; every field given must hold.
type ChainMatch struct {
	// Port is the one that packets come in on.
	Port string `json:"port,omitzero"`
	// VLAN is the outermost VLAN id, 0 for untagged packets only.
	VLAN   *int   `json:"vlan,omitzero" minimum:"0" maximum:"4094"`
	Family string `json:"family,omitzero" enum:"ipv4,ipv6"`
	// Src and Dst are addresses or prefixes.
	Src string `json:"src,omitzero"`
	Dst string `json:"dst,omitzero"`
	// Protocol is a name, as tcp, or a number.
	Protocol IntOrText `json:"protocol,omitzero"`
	// SrcPorts and DstPorts are a port, or a range as 1024-65535.
	SrcPorts IntOrText `json:"srcPorts,omitzero"`
	DstPorts IntOrText `json:"dstPorts,omitzero"`
}

// ChainFunction is a function of a chain.
type ChainFunction struct {
	// Name is unique in the chain. Left out: that of the module.
	Name string `json:"name,omitzero"`
	// Module is function@version, function@alias or sha256:DIGEST.
	Module string `json:"module"`
	// Config is the function's configuration.
	Config json.RawMessage `json:"config,omitzero"`
	// Fault is what becomes of packets that the function held when it failed:
	// closed drops them, open lets them go on. Default closed.
	Fault string `json:"fault,omitzero" enum:"closed,open"`
}

// ChainAddress is an address that the chain stands for.
type ChainAddress struct {
	Port   string `json:"port"`
	Prefix string `json:"prefix"`
}

// ChainReturn is the way back: the word none or mirrored, or an object.
type ChainReturn struct {
	// Word is none or mirrored; empty for an object.
	Word string
	ChainReturnPath
}

// ChainReturnPath is a way back that is not simply mirrored.
type ChainReturnPath struct {
	Functions []string     `json:"functions,omitzero"`
	Match     []ChainMatch `json:"match,omitzero"`
	Egress    string       `json:"egress,omitzero"`
}

// MarshalJSON implements json.Marshaler.
func (r ChainReturn) MarshalJSON() ([]byte, error) {
	if r.Word != "" {
		return json.Marshal(r.Word)
	}
	return json.Marshal(r.ChainReturnPath)
}

// UnmarshalJSON implements json.Unmarshaler.
func (r *ChainReturn) UnmarshalJSON(data []byte) error {
	*r = ChainReturn{}
	if len(data) > 0 && data[0] == '"' {
		return json.Unmarshal(data, &r.Word)
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&r.ChainReturnPath); err != nil {
		return fmt.Errorf("return: none, mirrored or an object with functions, match and egress is expected: %w", err)
	}
	return nil
}

// IntOrText is a number or text; in JSON whichever it looks like.
type IntOrText string

// MarshalJSON implements json.Marshaler.
func (t IntOrText) MarshalJSON() ([]byte, error) {
	if n, err := strconv.ParseUint(string(t), 10, 32); err == nil {
		return strconv.AppendUint(nil, n, 10), nil
	}
	return json.Marshal(string(t))
}

// UnmarshalJSON implements json.Unmarshaler.
func (t *IntOrText) UnmarshalJSON(data []byte) error {
	if len(data) > 0 && data[0] == '"' {
		return json.Unmarshal(data, (*string)(t))
	}
	n, err := strconv.ParseUint(string(data), 10, 32)
	if err != nil {
		return fmt.Errorf("%q is neither text nor a number without sign", clip(string(data)))
	}
	*t = IntOrText(strconv.FormatUint(n, 10))
	return nil
}

// Document returns the chain as a chain file has it, in JSON, for chains.Parse:
// without status, and without what only a daemon can do.
func (c *Chain) Document() ([]byte, error) {
	type names struct {
		Name   string `json:"name"`
		Tenant string `json:"tenant"`
	}
	spec := c.Spec
	spec.Drain = false
	if spec.Functions == nil {
		spec.Functions = []ChainFunction{}
	}
	return json.Marshal(struct {
		APIVersion string    `json:"apiVersion"`
		Kind       string    `json:"kind"`
		Metadata   names     `json:"metadata"`
		Spec       ChainSpec `json:"spec"`
	}{Version, c.KindName(), names{c.Metadata.Name, c.Metadata.Tenant}, spec})
}

// ChainStatus is a chain as it runs.
type ChainStatus struct {
	// ObservedGeneration is that of the spec in force; 0 when it does not run.
	ObservedGeneration int64 `json:"observedGeneration"`
	// Active: packets that it claims reach it, on all workers.
	Active    bool                  `json:"active"`
	Functions []ChainFunctionStatus `json:"functions,omitzero"`
	// Conditions: Ready, Progressing, Degraded.
	Conditions Conditions `json:"conditions,omitzero"`
	// UpdatedAt is when anything of this changed last.
	UpdatedAt time.Time `json:"updatedAt,omitzero"`
}

// ChainFunctionStatus is the version of a function that runs.
type ChainFunctionStatus struct {
	Name string `json:"name"`
	// Version is that under which the module is stored; that of its manifest
	// when it is named by digest, or is not what the chain asks for.
	Version string `json:"version"`
	Digest  string `json:"digest"`
	// State is running, suspended or probation.
	State string `json:"state"`
	// CanaryDigest is that of the version under trial, CanaryVersion its version
	// and CanaryPercent the part of the flows that meet it.
	CanaryDigest  string `json:"canaryDigest,omitzero"`
	CanaryVersion string `json:"canaryVersion,omitzero"`
	CanaryPercent int    `json:"canaryPercent,omitzero"`
	// Message is that of the last fault.
	Message string `json:"message,omitzero"`
}

// Header implements Object.
func (o *Chain) Header() (*Type, *Metadata) { return &o.Type, &o.Metadata }

// KindName implements Object.
func (o *Chain) KindName() string { return "Chain" }
