package lab

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sfc/testbed/gate"
)

// Functions export what they saw: a flow that has lasted for a second is
// reported.
func TestRecords(t *testing.T) {
	gate.Root(t)
	gate.Leaks(t)
	file := filepath.Join(t.TempDir(), "flows.json")
	t.Run("lab", func(t *testing.T) {
		catalog, err := filepath.Abs("../../nf/catalog")
		if err != nil {
			t.Fatal(err)
		}
		chain := writeChain(t, fmt.Sprintf("spec: {match: [{port: in}], egress: out, return: mirrored, "+
			"functions: [{module: %s/flowstat/flowstat.wasm, config: {active_timeout: 1}}]}\n", catalog))
		c := run(t, Options{Records: file, Chains: []string{chain}})
		echo(t, c, 7)
		on(t, c, HostClient, func() error { return paced("10.0.1.2:7", 1500*time.Millisecond) })
	})
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for line := range strings.Lines(string(text)) {
		var r struct {
			Record, Function string
			Source           string `json:"sourceIPv4Address"`
			Port             uint16 `json:"destinationTransportPort"`
			Packets          uint64 `json:"packetDeltaCount"`
		}
		if err := json.Unmarshal([]byte(line), &r); err != nil || r.Function != "flowstat" || r.Record == "" {
			t.Errorf("%s: %v", line, err)
		}
		if r.Source == "10.0.1.1" && r.Port == 7 && r.Packets > 0 {
			found++
		}
	}
	if found == 0 {
		t.Errorf("no record of the flow in %s", text)
	}
}

// paced sends datagrams of one flow for some time, and wants each of them back.
func paced(to string, d time.Duration) error {
	conn, err := net.Dial("udp", to)
	if err != nil {
		return err
	}
	defer conn.Close()
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
			return err
		}
		if _, err := conn.Write([]byte("still here")); err != nil {
			return err
		}
		if _, err := conn.Read(make([]byte, 100)); err != nil {
			return err
		}
	}
	return nil
}
