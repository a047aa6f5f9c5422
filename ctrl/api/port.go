package api

// Port is an interface of the host that chains take packets from and send them
// to.
type Port struct {
	Type     `json:",inline"`
	Metadata Metadata   `json:"metadata"`
	Spec     PortSpec   `json:"spec"`
	Status   PortStatus `json:"status,omitzero"`
}

// Values of a port's fields.
const (
	ModeInline = "inline"
	ModeRouted = "routed"

	UnmatchedPass    = "pass"
	UnmatchedForward = "forward"
	UnmatchedDrop    = "drop"

	AttachAuto    = "auto"
	AttachNative  = "native"
	AttachGeneric = "generic"
)

// PortSpec is which interface a port is, and how it is used.
type PortSpec struct {
	// Interface is the network interface's name. Left out, with no PCI address:
	// the port's name.
	Interface string `json:"interface,omitzero"`
	// PCIAddress is the device's, such as 0000:3b:00.0.
	PCIAddress string `json:"pciAddress,omitzero"`
	// Peer is the port that unclaimed packets go to when Unmatched is forward.
	Peer string `json:"peer,omitzero"`
	// Mode is inline: frames keep their addresses; or routed: they get those of
	// their next hop. Default inline.
	Mode string `json:"mode,omitzero" enum:"inline,routed"`
	// Unmatched is what becomes of packets that no chain claims: pass to the
	// kernel, forward to the peer, or drop. Default pass.
	Unmatched string `json:"unmatched,omitzero" enum:"pass,forward,drop"`
	// Attach is how the steering program sits there. Default auto: native where
	// the driver can.
	Attach string `json:"attach,omitzero" enum:"auto,native,generic"`
	// Queues is how many receive queues are served. Default: all.
	Queues int `json:"queues,omitzero" minimum:"0"`
	// Tenants that may use the port. Left out: all.
	Tenants []string `json:"tenants,omitzero"`
	// Force attaches it even if it is the only way to the host.
	Force bool `json:"force,omitzero"`
}

// PortStatus is a port as it is.
type PortStatus struct {
	// Interface that was found.
	Interface string `json:"interface,omitzero"`
	// Up: attached, and the link is there and up.
	Up bool `json:"up"`
	// Attach is native or generic, Bind copy or zero-copy, as the kernel says.
	Attach string `json:"attach,omitzero"`
	Bind   string `json:"bind,omitzero"`
	Queues int    `json:"queues,omitzero"`
	// Capabilities of driver and device.
	Capabilities *PortCapabilities `json:"capabilities,omitzero"`
	// Conditions: Ready.
	Conditions Conditions `json:"conditions,omitzero"`
}

// PortCapabilities is what driver and device can do, and what was changed.
type PortCapabilities struct {
	Driver     string `json:"driver"`
	PCIAddress string `json:"pciAddress,omitzero"`
	MAC        string `json:"mac,omitzero"`
	MTU        int    `json:"mtu,omitzero"`
	// Native: the driver runs XDP programs itself.
	Native bool `json:"native"`
	// ZeroCopy: frames need no copy between device and engine.
	ZeroCopy bool `json:"zeroCopy"`
	// Queues that can be had.
	Queues int `json:"queues"`
	// OffloadsChanged are features that were switched, such as "gro: off".
	OffloadsChanged []string `json:"offloadsChanged,omitzero"`
	// Management: the host is reached through it.
	Management bool `json:"management,omitzero"`
	// Notes are for people.
	Notes []string `json:"notes,omitzero"`
}

// Header implements Object.
func (o *Port) Header() (*Type, *Metadata) { return &o.Type, &o.Metadata }

// KindName implements Object.
func (o *Port) KindName() string { return "Port" }
