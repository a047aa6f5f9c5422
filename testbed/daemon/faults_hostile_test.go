package daemon

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bytecodealliance/wasmtime-go/v39"

	"sfc/ctrl/api"
	"sfc/ctrl/client"
	"sfc/nf"
	"sfc/testbed/trafgen"
)

// hostileModule is a module that means harm, and what it is for: refused, or how
// far it gets.
type hostileModule struct {
	wasm          []byte
	kind, version string
}

// functionOf is what the manifest of a file's module says it is.
func functionOf(file string) string {
	return strings.ReplaceAll(strings.TrimSuffix(file, filepath.Ext(file)), "_", "-")
}

// hostileModules are those that the sandbox is tested with, by file.
func hostileModules(t testing.TB) map[string]hostileModule {
	t.Helper()
	all := map[string]hostileModule{}
	files := must[[]string](t)(filepath.Glob(filepath.Join(repository, "nf/wasm/testdata/hostile/*.*")))
	for _, path := range files {
		source := string(must[[]byte](t)(os.ReadFile(path)))
		line := func(name string) string {
			_, rest, _ := strings.Cut("\n"+source, "\n;; "+name+": ")
			rest, _, _ = strings.Cut(rest, "\n")
			return rest
		}
		m := hostileModule{wasm: []byte(source), kind: "refused", version: "1.0.0"}
		if filepath.Ext(path) == ".wat" {
			m.wasm = must[[]byte](t)(wasmtime.Wat2Wasm(source))
			m.kind, _, _ = strings.Cut(line("expect"), ":")
			if text := line("manifest"); text != "" {
				m.wasm = must[[]byte](t)(nf.AppendManifest(m.wasm, []byte(text)))
			}
		}
		all[filepath.Base(path)] = m
	}
	if len(all) < 50 {
		t.Fatalf("there are %d hostile modules", len(all))
	}
	return all
}

// swollen are modules that are small and announce, or unfold to, much: what a zip
// bomb is to archives.
func swollen() map[string][]byte {
	u := func(n int) []byte { return binary.AppendUvarint(nil, uint64(n)) }
	section := func(id byte, body ...[]byte) []byte {
		all := bytes.Join(body, nil)
		return append(append([]byte{id}, u(len(all))...), all...)
	}
	wasm := func(parts ...[]byte) []byte {
		return append([]byte("\x00asm\x01\x00\x00\x00"), bytes.Join(parts, nil)...)
	}
	many := func(b []byte, n int) []byte { return append(u(n), bytes.Repeat(b, n)...) }
	oneType, oneFunc := section(1, []byte{1, 0x60, 0, 0}), section(3, []byte{1, 0})
	const most = 1<<32 - 1
	nest := append([]byte{0}, append(bytes.Repeat([]byte{2, 0x40}, 1_000_000), bytes.Repeat([]byte{0x0b}, 1_000_001)...)...)
	return map[string][]byte{
		"section of 4 GiB":        wasm([]byte{1}, u(most)),
		"4 billion types":         wasm(section(1, u(most))),
		"4 billion functions":     wasm(oneType, section(3, u(most))),
		"1 million bodies":        wasm(oneType, section(3, many([]byte{0}, 1_000_000)), section(10, many([]byte{2, 0, 0x0b}, 1_000_000))),
		"4 billion locals":        wasm(oneType, oneFunc, section(10, []byte{1, 8, 1, 0xff, 0xff, 0xff, 0xff, 0x0f, 0x7f, 0x0b})),
		"1 million nested blocks": wasm(oneType, oneFunc, section(10, []byte{1}, u(len(nest)), nest)),
		"memory of 4 GiB":         wasm(section(5, []byte{1, 0}, u(65536))),
		"table of 4 billion":      wasm(section(4, []byte{1, 0x70, 0}, u(most))),
		"data of 4 GiB":           wasm(section(5, []byte{1, 0, 1}), section(11, []byte{1, 0, 0x41, 0, 0x0b}, u(most))),
		"1 million imports":       wasm(oneType, section(2, many([]byte{0, 0, 0, 0}, 1_000_000))),
		"1 million empty customs": wasm(bytes.Repeat(section(0, []byte{0}), 1_000_000)),
		"manifest nested deeply":  wasm(section(0, []byte("\x0csfc.manifest"), bytes.Repeat([]byte{'['}, 200<<10))),
		"zeros":                   make([]byte, 4<<20),
		"gzip":                    append([]byte{0x1f, 0x8b, 8}, make([]byte, 2<<20)...),
	}
}

// put uploads a module as mallory's and returns what is said.
func (f *faulty) put(function, version string, body io.Reader, size int64) error {
	_, err := f.api.Upload(context.Background(), "mallory", client.Upload{Function: function, Version: version, Module: body, Size: size})
	return err
}

// stored is how many bytes lie in the daemon's data.
func (f *faulty) stored() (sum int64) {
	f.t.Helper()
	check(f.t, filepath.WalkDir(f.data(), func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // it went meanwhile
		} else if err != nil || d.IsDir() {
			return err
		}
		if info, err := d.Info(); err == nil {
			sum += info.Size()
		}
		return nil
	}))
	return sum
}

// A tenant uploads everything that is known to do harm, and runs what it may of
// it. Its neighbour loses no packet, the daemon answers in time, and what was
// refused leaves nothing on disk nor in memory.
func TestFaultHostileUploads(t *testing.T) {
	f := newFaulty(t, publicDir(t))
	f.tenant("acme")
	f.tenant("mallory")
	f.ports(api.UnmatchedDrop)
	f.active("acme", "edge", 5)
	modules := hostileModules(t)
	control, _ := f.child("control")
	disk, mem := f.stored(), memory(t, control)
	s := f.stream(5, time.Millisecond)
	var accepted []string
	worst := f.while("hostile uploads", func() {
		refused := func(what string, err error) {
			p, ok := errors.AsType[*api.Problem](err)
			if !ok || p.Status != 413 && p.Status != 422 || len(p.Detail) > 8<<10 {
				t.Errorf("%s: %v, want a refusal that says why", what, err)
			}
		}
		for what, wasm := range swollen() {
			refused(what, f.put("guest", "9.9.9", bytes.NewReader(wasm), int64(len(wasm))))
		}
		for _, size := range []int64{1 << 30, -1} {
			begin := time.Now()
			sent := &counted{left: 1 << 30}
			refused(fmt.Sprintf("1 GiB, length said to be %d", size), f.put("guest", "9.9.9", sent, size))
			t.Logf("1 GiB, length said to be %d: %d MiB were taken in %v", size, sent.read>>20, time.Since(begin).Round(time.Millisecond))
			if sent.read > 80<<20 || time.Since(begin) > 10*time.Second {
				t.Errorf("of 1 GiB %d MiB were taken, in %v", sent.read>>20, time.Since(begin))
			}
		}
		begin := time.Now()
		for _, name := range slices.Sorted(maps.Keys(modules)) {
			if m := modules[name]; m.kind == "refused" {
				refused(name, f.put(functionOf(name), m.version, bytes.NewReader(m.wasm), int64(len(m.wasm))))
			}
		}
		t.Logf("those that the sandbox refuses took %v", time.Since(begin).Round(time.Millisecond))
	})
	if left := must[[]os.DirEntry](t)(os.ReadDir(filepath.Join(f.data(), "spool"))); len(left) > 0 {
		t.Errorf("%d files are left of uploads", len(left))
	}
	grown := f.stored() - disk
	if grown > 1<<20 {
		t.Errorf("%d bytes more are on disk", grown)
	}
	f.await("small again", func() string {
		if now := memory(t, control); now-mem > 64<<20 {
			return fmt.Sprintf("control has %d MiB, it had %d", now>>20, mem>>20)
		}
		return ""
	})
	t.Logf("what was refused left %d bytes on disk (audit log); control had %d MiB, has %d", grown, mem>>20, memory(t, control)>>20)

	running := f.while("hostile chains", func() {
		begin := time.Now()
		for _, name := range slices.Sorted(maps.Keys(modules)) {
			m := modules[name]
			if m.kind == "refused" {
				continue
			}
			if err := f.put(functionOf(name), m.version, bytes.NewReader(m.wasm), int64(len(m.wasm))); err != nil {
				t.Errorf("%s (%s): %v", name, m.kind, err)
				continue
			}
			c := chainOn(functionOf(name), 100+len(accepted), functionOf(name)+"@"+m.version)
			if _, err := f.api.Chains("mallory").Create(context.Background(), c); err != nil {
				t.Errorf("chain of %s: %v", name, err)
				continue
			}
			accepted = append(accepted, name)
		}
		t.Logf("%d chains were made in %v", len(accepted), time.Since(begin).Round(time.Millisecond))
		f.feed(len(accepted), 3*time.Second)
	})
	if max(worst, running) > slowest {
		t.Errorf("a GET took %v meanwhile", max(worst, running))
	}
	begin := time.Now()
	f.await("decided", func() string { return f.undecided(len(accepted)) })
	t.Logf("all were decided %v later", time.Since(begin).Round(time.Millisecond))
	if lost := s.lost(); lost != 0 {
		t.Errorf("the neighbour lost %d of %d packets", lost, s.sent)
	}
	stats := must[*api.Stats](t)(f.api.Stats(t.Context(), "acme"))
	if len(stats.Chains) != 1 || len(stats.Chains[0].Drops) > 0 {
		t.Errorf("the neighbour's chain: %+v", stats.Chains)
	}
	if strings.Contains(f.log.String(), "child died") {
		t.Error("a process died")
	}
	t.Logf("%d modules ran or tried to; longest gap of the neighbour's packets %v", len(accepted), s.longest.Round(time.Millisecond))
}

// feed sends packets to mallory's chains.
func (f *faulty) feed(chains int, d time.Duration) {
	send := must[*trafgen.Sender](f.t)(trafgen.OpenSender(f.far[0]))
	defer send.Close()
	for end, i := time.Now().Add(d), 0; time.Now().Before(end); i++ {
		for vlan := range chains {
			if _, err := send.Send([][]byte{probe(100+vlan, i)}); err != nil {
				f.t.Errorf("send: %v", err)
				return
			}
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// undecided says which of mallory's chains neither run nor say why not.
func (f *faulty) undecided(chains int) string {
	list, err := f.api.Chains("mallory").All(context.Background())
	if err != nil || len(list.Items) != chains {
		return fmt.Sprint("chains of mallory: ", list, err)
	}
	for _, c := range list.Items {
		ready := c.Status.Conditions.Find(api.Ready)
		if ready == nil || ready.Status != api.True && (ready.Message == "" || ready.Reason == "Compiling" || ready.Reason == "Pending") {
			return fmt.Sprintf("%s: %+v", c.Metadata.Name, ready)
		}
	}
	return ""
}

// counted is as many zeros as anybody wants, and counts those that were read.
type counted struct{ left, read int64 }

// Read implements io.Reader.
func (c *counted) Read(p []byte) (int, error) {
	if c.left == 0 {
		return 0, io.EOF
	}
	n := min(int64(len(p)), c.left)
	clear(p[:n])
	c.left -= n
	c.read += n
	return int(n), nil
}
