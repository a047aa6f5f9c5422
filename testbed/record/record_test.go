package record

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sfc/dataplane/packet"
	"sfc/testbed/capture"
	"sfc/testbed/gate"
)

func TestMain(m *testing.M) { os.Exit(gate.Main(m)) }

// A recording holds every kind of traffic, both ways, in order of time, with
// correct checksums.
func TestRecording(t *testing.T) {
	gate.Root(t)
	gate.Leaks(t)
	path := filepath.Join(t.TempDir(), "demo.pcapng")
	rep, err := Run(context.Background(), Options{Out: path, Seconds: 1})
	if err != nil {
		t.Fatal(err)
	}
	all := 0
	for _, n := range webSizes {
		all += n
	}
	const fetches = 2 * webClients * webRounds // of each size
	want := Traffic{
		HTTPRequests: fetches * uint64(len(webSizes)), HTTPBytes: fetches * uint64(all),
		DNSQueries: 4 * uint64(len(names)), Pings: 2 * pingsEach, Datagrams: 2 * streamEach, Telnet: 2,
	}
	if rep.Traffic != want {
		t.Errorf("traffic %+v, want %+v", rep.Traffic, want)
	}
	packets, err := capture.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if uint64(len(packets)) != rep.Packets {
		t.Errorf("%d packets in the file, %d in the report", len(packets), rep.Packets)
	}
	seen := map[string]int{}
	last := int64(0)
	for i, p := range packets {
		if p.TimeNs < last {
			t.Fatalf("packet %d is earlier than the one before", i+1)
		}
		last = p.TimeNs
		if p.Cut() || len(p.Data) > packet.MaxFrame {
			t.Fatalf("packet %d has %d of %d bytes", i+1, len(p.Data), p.OrigLen)
		}
		if !packet.VerifyChecksums(p.Data) {
			t.Fatalf("packet %d has a wrong checksum: % x", i+1, p.Data)
		}
		for _, kind := range kinds(p.Data) {
			seen[kind]++
		}
	}
	for _, kind := range []string{
		"arp", "nd", "tcp4:80", "tcp6:80", "tcp4:23", "tcp6:23", "udp4:53", "udp6:53", "udp4:5004", "udp6:5004", "icmp4", "icmp6",
		"from client", "from server", "bytes:1514",
	} {
		if seen[kind] == 0 {
			t.Errorf("no %s among %v", kind, seen)
		}
	}
	if first := time.Unix(0, packets[0].TimeNs); time.Since(first) > time.Minute || time.Since(first) < 0 {
		t.Errorf("the first packet is of %v", first)
	}
}

// kinds says what a frame is.
func kinds(frame []byte) (kinds []string) {
	if frame[11] == 0x0a {
		kinds = append(kinds, "from client")
	} else {
		kinds = append(kinds, "from server")
	}
	if len(frame) == 1514 {
		kinds = append(kinds, "bytes:1514")
	}
	in, result := packet.Parse(frame)
	if result != packet.ParsedIP {
		if frame[12] == 8 && frame[13] == 6 {
			kinds = append(kinds, "arp")
		}
		if frame[12] == 0x86 && frame[13] == 0xdd {
			kinds = append(kinds, "nd")
		}
		return kinds
	}
	version := string('0' + rune(frame[in.L3]>>4))
	switch in.Proto {
	case 6, 17:
		name := map[uint8]string{6: "tcp", 17: "udp"}[in.Proto] + version
		for _, at := range []int{0, 2} {
			port := int(frame[int(in.L4)+at])<<8 | int(frame[int(in.L4)+at+1])
			for p, text := range map[int]string{23: ":23", 53: ":53", 80: ":80", streamPort: ":5004"} {
				if port == p {
					kinds = append(kinds, name+text)
				}
			}
		}
	case 1:
		kinds = append(kinds, "icmp4")
	case 58:
		if typ := frame[in.L4]; typ >= 133 && typ <= 137 {
			kinds = append(kinds, "nd")
		} else {
			kinds = append(kinds, "icmp6")
		}
	}
	return kinds
}

func TestInterruptedRecordingLeavesNothing(t *testing.T) {
	gate.Root(t)
	gate.Leaks(t)
	path := filepath.Join(t.TempDir(), "demo.pcapng")
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(250*time.Millisecond, cancel)
	start := time.Now()
	rep, err := Run(ctx, Options{Out: path, Seconds: 30})
	if !errors.Is(err, context.Canceled) || rep != nil {
		t.Errorf("%+v, %v", rep, err)
	}
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("it took %v to stop", d)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("file left: %v", err)
	}
}

func TestWrongOptions(t *testing.T) {
	for want, opts := range map[string]Options{
		"--out":                        {},
		"seconds -1: record for 1 to ": {Out: "x", Seconds: -1},
		"seconds 61: record for 1 to ": {Out: "x", Seconds: MaxSeconds + 1},
	} {
		if _, err := Run(context.Background(), opts); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", opts, err, want)
		}
	}
	gate.Root(t)
	gate.Leaks(t)
	if _, err := Run(context.Background(), Options{Out: filepath.Join(t.TempDir(), "no", "such.pcapng")}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("folder that does not exist: %v", err)
	}
}
