// Package nf is the contract between the engine and a network function: the
// ABI's constants, the manifest, and the checks a module must pass before any
// of it runs. ABI.md is the same contract in prose, for authors.
package nf

// ABIVersion is the version of the ABI that this engine runs.
const ABIVersion = 1

// Guest addresses, the same for every module. [WindowStart, DataStart) belongs
// to the engine: a module's own data and heap lie from DataStart up, its stack
// there too or below WindowStart.
const (
	// WindowStart is the control page (one [ControlPage]).
	WindowStart = 0x0100_0000
	// DescStart is the array of packet descriptors.
	DescStart = WindowStart + 0x1000
	// ControlSize is the size in bytes of control page and descriptors.
	ControlSize = 0x4000
	// FramesStart is the frame region, at most FramesMax bytes.
	FramesStart = 0x0200_0000
	FramesMax   = PrivateStart - FramesStart
	// PrivateStart is the function's own part of the window: the counters
	// page, then the configuration, then (from SlotsStart) flow state.
	PrivateStart  = 0x0800_0000
	CountersStart = PrivateStart
	// NumCounters is how many 64-bit counters the page holds.
	NumCounters = 512
	ConfigStart = PrivateStart + 0x1_0000
	// ConfigMax is the longest configuration in bytes.
	ConfigMax = 0x10_0000
	// OldStateStart is where sfc_slot_migrate finds a flow's state as the
	// version before left it: a copy, at most [MaxFlowState] bytes.
	OldStateStart = PrivateStart + 0x8000
	SlotsStart    = 0x0900_0000
	// DataStart is where a module's data begins (--global-base).
	DataStart = 0x1000_0000
)

// Names of exports and imports.
const (
	ExportMarker    = "sfc_abi_v1"
	ExportMemory    = "memory"
	ExportConfigure = "sfc_configure"
	ExportProcess   = "sfc_process"
	ExportTick      = "sfc_tick"
	ExportFlowEnd   = "sfc_flow_end"
	ExportRequest   = "sfc_request"
	ExportMigrate   = "sfc_slot_migrate"
	ImportModule    = "sfc"
	ImportLog       = "log"
	ImportEmit      = "emit"
	ImportBind      = "flow_bind"
	ImportClaim     = "claim"
	ImportClaimFind = "claim_find"
	ManifestSection = "sfc.manifest"
)

// ControlPage is the layout of the control page, little-endian. The host
// writes it, functions read it.
type ControlPage struct {
	ABI      uint32 // ABIVersion
	Burst    uint32 // most descriptors per call
	NowNs    uint64 // time of this burst in ns
	Path     uint32 // index of the service path
	Worker   uint32 // index of the worker
	Ports    uint32 // number of ports; OutPort must be below
	ChunkLen uint32 // bytes per chunk
}
