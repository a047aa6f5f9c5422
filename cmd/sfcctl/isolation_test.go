package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"path/filepath"
	"testing"

	"sfc/testbed/capture"
)

// Two tenants share the ports. What one tenant's function does to the memory it
// can reach costs the other no packet and changes no byte.
func TestOtherTenantsPacketsAreSafe(t *testing.T) {
	const n = 300 // packets of each tenant
	frames := make([][]byte, 2*n)
	for i := range n {
		frames[2*i], frames[2*i+1] = udpFrame(100, i), udpFrame(100, n+i)
	}
	// udpFrame counts source ports up from 1024: the good tenant has the lower.
	ports := map[string]string{"good": fmt.Sprintf("1024-%d", 1024+n-1), "evil": fmt.Sprintf("%d-%d", 1024+n, 1024+2*n-1)}
	chain := func(tenant, module string) string {
		module, err := filepath.Abs(module)
		if err != nil {
			t.Fatal(err)
		}
		return writeFile(t, tenant+".yaml", []byte(fmt.Sprintf(
			"apiVersion: sfc/v1\nkind: Chain\nmetadata: {name: %s, tenant: %s}\nspec:\n"+
				"  match: [{port: in, protocol: udp, srcPorts: %s}]\n  egress: out\n"+
				"  functions:\n    - {name: f, module: %q, config: {}}\n", tenant, tenant, ports[tenant], module)))
	}
	in := writeCapture(t, frames...)
	good := chain("good", catalog+"hop/hop.wasm")
	want := goodPackets(t, n, "--offline", "--chain", good, "--in", in)
	if len(want) != n {
		t.Fatalf("alone, %d of %d packets got through", len(want), n)
	}
	for _, name := range []string{"fills_window", "writes_other_chunks", "points_elsewhere", "overwrites_control_page", "loops_forever"} {
		t.Run(name, func(t *testing.T) {
			module, _, _ := assembled(t, "../../nf/wasm/testdata/hostile/"+name+".wat")
			evil := chain("evil", module)
			modes(t, func(t *testing.T, flags ...string) {
				got := goodPackets(t, n, append(flags, "--chain", evil, "--chain", good, "--in", in)...)
				if len(got) != n {
					t.Fatalf("%d of %d packets got through", len(got), n)
				}
				for i := range got {
					if !bytes.Equal(got[i], want[i]) {
						t.Fatalf("packet %d is % x, alone it was % x", i, got[i], want[i])
					}
				}
			})
		})
	}
}

// goodPackets replays and returns what came out of the good tenant's n packets.
func goodPackets(t *testing.T, n int, args ...string) (frames [][]byte) {
	t.Helper()
	out := filepath.Join(t.TempDir(), "out.pcapng")
	rep, got := replayed(t, append(args, "--out", out)...)
	if got.status != exitOK || rep.Damaged != 0 || len(rep.Chains) == 2 && rep.Mode.Memory != "shared" {
		t.Fatalf("%+v", got)
	}
	packets, err := capture.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range packets {
		if binary.BigEndian.Uint16(p.Data[34:]) < uint16(1024+n) {
			frames = append(frames, p.Data)
		}
	}
	return frames
}
