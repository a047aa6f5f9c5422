package lab

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"sfc/testbed/gate"
)

// program runs a real program on a host and returns what it wrote.
func program(t *testing.T, c *Client, h Host, argv ...string) (string, error) {
	t.Helper()
	path := gate.Tool(t, argv[0])
	var out []byte
	err := c.within(t.Context(), h, func() (err error) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		out, err = exec.CommandContext(ctx, path, argv[1:]...).CombinedOutput()
		return err
	})
	return string(out), err
}

// startServer starts a real program on the server; it ends with the test.
func startServer(t *testing.T, c *Client, dir string, argv ...string) {
	t.Helper()
	cmd := exec.Command(gate.Tool(t, argv[0]), argv[1:]...)
	cmd.Dir = dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	ended := make(chan struct{})
	// The thread that starts it must live as long as the program does.
	go on(t, c, HostServer, func() error {
		defer close(ended)
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // killed below
		}
		return nil
	})
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
	})
}

// webServer is python3 -m http.server with room for 100 connections that come
// at once: its own listens with a backlog of 5.
const webServer = `
import http.server, os
class S(http.server.ThreadingHTTPServer):
    request_queue_size = 256
S(("", 80), http.server.SimpleHTTPRequestHandler).serve_forever()
`

// iperf measures TCP and UDP, both ways.
func iperf(t *testing.T, c *Client) {
	startServer(t, c, t.TempDir(), "iperf3", "-s")
	lost := 0 // datagrams
	for _, args := range [][]string{nil, {"-R"}, {"-u", "-b", "20M"}, {"-u", "-b", "20M", "-R"}} {
		var out string
		retry(t, func() (err error) {
			out, err = program(t, c, HostClient, append([]string{"iperf3", "-c", "10.0.1.2", "-t", "2", "-J"}, args...)...)
			if err == nil && strings.Contains(out, `"error":`) { // its exit status is 0 all the same
				err = errors.New("iperf3")
			}
			return withOutput(out, err)
		})
		var rep struct {
			End struct {
				SumSent, SumReceived, Sum struct {
					BitsPerSecond float64 `json:"bits_per_second"`
					Retransmits   int     `json:"retransmits"`
					LostPackets   int     `json:"lost_packets"`
					Packets       int     `json:"packets"`
				}
			} `json:"end"`
		}
		text := regexp.MustCompile(`"(sum)_(sent|received)"`).ReplaceAllString(out, `"$1$2"`)
		if err := json.Unmarshal([]byte(text), &rep); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		e := rep.End
		if len(args) > 0 && args[0] == "-u" {
			lost += e.Sum.LostPackets
			full, around := bufferErrors(t, c), kernelLosses(t, c)
			t.Logf("udp %v: %d packets, %d lost; so far %d found a full socket buffer, %d a full ring", args, e.Sum.Packets, e.Sum.LostPackets, full, around)
			if lost > full+around {
				t.Errorf("%d datagrams were lost, %d of them by the programs that did not read them, %d around the engine", lost, full, around)
			}
			if e.Sum.Packets == 0 {
				t.Errorf("%v: no packet came", args)
			}
			continue
		}
		t.Logf("tcp %v: %.0f Mbit/s, %d retransmits", args, e.SumReceived.BitsPerSecond/1e6, e.SumSent.Retransmits)
		if e.SumReceived.BitsPerSecond == 0 {
			t.Errorf("%v: nothing came\n%s", args, out)
		}
	}
}

// bufferErrors returns how many datagrams came to the hosts and were lost there,
// because the program did not read them in time (RcvbufErrors of
// /proc/net/snmp).
func bufferErrors(t *testing.T, c *Client) (sum int) {
	t.Helper()
	for _, h := range []Host{HostClient, HostServer} {
		on(t, c, h, func() error {
			text, err := os.ReadFile("/proc/thread-self/net/snmp")
			if err != nil {
				return err
			}
			var names []string
			for line := range strings.Lines(string(text)) {
				f := strings.Fields(line)
				if f[0] != "Udp:" {
					continue
				}
				if names == nil {
					names = f
				} else if i := slices.Index(names, "RcvbufErrors"); i >= 0 {
					n, err := strconv.Atoi(f[i])
					if err != nil {
						return err
					}
					sum += n
				}
			}
			return nil
		})
	}
	return sum
}

// kernelLosses returns how many frames found a full ring around the engine.
func kernelLosses(t *testing.T, c *Client) (sum int) {
	t.Helper()
	s, err := c.Stats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range s.Ports {
		for _, n := range p.Lost {
			sum += int(n)
		}
	}
	return sum
}

// answerNames is a name server that has one address for all names.
func answerNames(t *testing.T, c *Client) {
	t.Helper()
	on(t, c, HostServer, func() error {
		p, err := net.ListenPacket("udp", ":53")
		if err != nil {
			return err
		}
		t.Cleanup(func() { p.Close() })
		go func() {
			buf := make([]byte, 512)
			for {
				n, from, err := p.ReadFrom(buf)
				if err != nil {
					return
				}
				if a := answer(buf[:n]); a != nil {
					_, _ = p.WriteTo(a, from) // a lost answer fails the test
				}
			}
		}()
		return nil
	})
}

// answer answers a DNS query (RFC 1035) of one question with 192.0.2.53; nil
// when it is none.
func answer(q []byte) []byte {
	const header = 12
	end := header
	for end < len(q) && q[end] != 0 {
		end += int(q[end]) + 1
	}
	end += 1 + 4
	if len(q) < header || end > len(q) {
		return nil
	}
	a := append([]byte(nil), q[:end]...)
	a[2], a[3] = 0x81, 0x80
	binary.BigEndian.PutUint64(a[4:], 1<<48|1<<32) // a question, an answer
	return append(a, 0xc0, header, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 53)
}

// retry does something that a server which has just been started may refuse.
func retry(t *testing.T, do func() error) {
	t.Helper()
	var err error
	for range 50 {
		if err = do(); err == nil {
			return
		}
		// iperf3's server is busy for a moment after each test.
		if !strings.Contains(err.Error(), "refused") && !strings.Contains(err.Error(), "connect to") && !strings.Contains(err.Error(), "server is busy") {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatal(err)
}

func withOutput(out string, err error) error {
	if err != nil {
		return errors.Join(err, errors.New(out))
	}
	return nil
}

func same(t *testing.T, file string, want []byte) {
	t.Helper()
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != string(want) {
		t.Fatalf("%s: %d bytes came, not the %d that were sent", filepath.Base(file), len(got), len(want))
	}
}
