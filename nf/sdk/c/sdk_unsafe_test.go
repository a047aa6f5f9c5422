package sdk_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unsafe"

	"sfc/dataplane/flow"
	"sfc/dataplane/packet"
	"sfc/nf"
	"sfc/nf/build"
)

// The headers and the Go packages state the same ABI: a C file that asserts
// every number of the Go side must compile.
func TestSameABI(t *testing.T) {
	var d packet.Desc
	var c nf.ControlPage
	var src strings.Builder
	src.WriteString("#include \"sfc.h\"\n#include \"sfc_log.h\"\n#include \"sfc_flow.h\"\n")
	same := func(c string, value any) {
		fmt.Fprintf(&src, "_Static_assert(%s == %d, \"%s is %v in Go\");\n", c, value, c, value)
	}
	for expr, value := range map[string]any{
		"SFC_WINDOW_START": nf.WindowStart, "SFC_DESC_START": nf.DescStart, "SFC_FRAMES_START": nf.FramesStart,
		"SFC_PRIVATE_START": nf.PrivateStart, "SFC_COUNTERS_START": nf.CountersStart, "SFC_CONFIG_START": nf.ConfigStart,
		"SFC_SLOTS_START": nf.SlotsStart, "SFC_DATA_START": nf.DataStart, "SFC_NUM_COUNTERS": nf.NumCounters,
		"SFC_CONFIG_MAX": nf.ConfigMax, "SFC_BURST": packet.BurstSize, "SFC_CHUNK_SIZE": packet.ChunkSize,
		"SFC_MIN_FRAME": packet.MinFrame, "sizeof(struct sfc_desc)": packet.DescSize,
		"sizeof(struct sfc_tuple)": flow.TupleSize,
		"SFC_IPV4":                 packet.FlagIPv4, "SFC_IPV6": packet.FlagIPv6, "SFC_VLAN": packet.FlagVLAN,
		"SFC_FRAGMENT": packet.FlagFragment, "SFC_LATER_FRAG": packet.FlagLaterFrag, "SFC_ICMP_ERROR": packet.FlagICMPError,
		"SFC_NEW_FLOW": packet.FlagNewFlow, "SFC_REVERSE": packet.FlagReverse,
		"SFC_VERDICT_ABORT": uint8(packet.Abort), "SFC_VERDICT_DROP": uint8(packet.Drop), "SFC_VERDICT_NEXT": uint8(packet.Next),
		"SFC_VERDICT_TX": uint8(packet.Tx), "SFC_VERDICT_PASS": uint8(packet.Pass),
	} {
		same(expr, value)
	}
	for field, offset := range map[string]uintptr{
		"chunk": unsafe.Offsetof(d.Chunk), "off": unsafe.Offsetof(d.Off), "len": unsafe.Offsetof(d.Len),
		"l3": unsafe.Offsetof(d.L3), "l4": unsafe.Offsetof(d.L4), "proto": unsafe.Offsetof(d.Proto),
		"flags": unsafe.Offsetof(d.Flags), "slot": unsafe.Offsetof(d.Slot), "hash": unsafe.Offsetof(d.Hash),
		"rx_ns": unsafe.Offsetof(d.RxNs), "in_port": unsafe.Offsetof(d.InPort), "out_port": unsafe.Offsetof(d.OutPort),
		"mark": unsafe.Offsetof(d.Mark), "verdict": unsafe.Offsetof(d.Verdict), "reason": unsafe.Offsetof(d.Reason),
		"vlan": unsafe.Offsetof(d.VLAN),
	} {
		same("offsetof(struct sfc_desc, "+field+")", offset)
	}
	for field, offset := range map[string]uintptr{
		"abi": unsafe.Offsetof(c.ABI), "burst": unsafe.Offsetof(c.Burst), "now_ns": unsafe.Offsetof(c.NowNs),
		"path": unsafe.Offsetof(c.Path), "worker": unsafe.Offsetof(c.Worker), "ports": unsafe.Offsetof(c.Ports),
		"chunk_len": unsafe.Offsetof(c.ChunkLen),
	} {
		same("offsetof(struct sfc_control, "+field+")", offset)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "abi.c"), []byte(src.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	err := build.Native(dir, filepath.Join(dir, "abi.so"))
	if errors.Is(err, build.ErrNoCompiler) {
		t.Skip(err)
	}
	if err != nil {
		t.Error(err)
	}
}
