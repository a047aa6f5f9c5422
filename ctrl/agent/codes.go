package agent

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"sfc/chains"
	"sfc/dataplane/arena"
	"sfc/nf/wasm"
)

// code is a compiled module that was put. What it came as lies in memory that is
// kept, behind a word with its length in bytes.
type code struct {
	digest string
	kept   string // its name there
	module *wasm.Module
	seen   *chains.Module
	users  int // the table of codes, and every chain that runs it
}

// codesName is the folder that codes are kept in, by size of their memory and
// digest: memory is opened by its size.
const codesName = "code/"

// codeHead is the length in front of a code, in bytes.
const codeHead = 8

// PutCode is plane.Plane's. The digest is whatever chains call the code by, and
// fit to be part of a name that is kept.
func (d *Dataplane) PutCode(_ context.Context, digest string, file *os.File) error {
	d.changing.Lock()
	defer d.changing.Unlock()
	if d.codes[digest] != nil {
		return nil
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(file.Fd()), &st); err != nil {
		return fmt.Errorf("code %s: %w", digest, err)
	}
	if st.Size <= 0 || st.Size > wasm.MaxArtifact {
		return fmt.Errorf("code %s: %d bytes, want 1 to %d", digest, st.Size, wasm.MaxArtifact)
	}
	page := os.Getpagesize()
	size := (int(st.Size) + codeHead + page - 1) / page * page
	name := fmt.Sprintf("%s%d/%s", codesName, size, digest)
	if err := d.opts.Keep.Forget(name); err != nil { // one that was cut off half-way
		return err
	}
	region, _, err := d.opts.Keep.Open(name, size, arena.Options{})
	if err != nil {
		return fmt.Errorf("code %s: %w", digest, err)
	}
	defer region.Close()
	if _, err := file.ReadAt(region.Bytes()[codeHead:][:st.Size], 0); err != nil {
		return fmt.Errorf("code %s: %w", digest, err)
	}
	binary.LittleEndian.PutUint64(region.Bytes(), uint64(st.Size))
	return d.loadCode(name, digest, region.Bytes())
}

// loadCode makes the code in a piece of kept memory ready to run.
func (d *Dataplane) loadCode(name, digest string, mem []byte) error {
	n := binary.LittleEndian.Uint64(mem)
	if n > uint64(len(mem)-codeHead) {
		return fmt.Errorf("code %s: %d bytes in memory of %d: put it again", digest, n, len(mem))
	}
	a, err := wasm.DecodeArtifact(mem[codeHead:][:n])
	if err != nil {
		return fmt.Errorf("code %s: %w", digest, err)
	}
	m, err := d.rt.Load(a)
	if err != nil {
		return fmt.Errorf("code %s: %w", digest, err)
	}
	d.codes[digest] = &code{digest: digest, kept: name, module: m, seen: &chains.Module{Info: m.Info, Manifest: m.Manifest}, users: 1}
	return nil
}

func (c *code) hold() { c.users++ }

// letGo closes the code when nobody uses it any more. Users are counted by who
// holds Dataplane.changing.
func (c *code) letGo() {
	if c.users--; c.users == 0 {
		c.module.Close()
	}
}

// forgetCodes forgets codes that nothing desired names and no chain runs.
func (d *Dataplane) forgetCodes() {
	wanted := map[string]bool{}
	for _, c := range d.chains {
		for _, digest := range c.want.Code {
			wanted[digest] = true
		}
		for _, y := range c.want.Canaries {
			wanted[y.Code] = true
		}
	}
	for digest, c := range d.codes {
		if wanted[digest] || c.users > 1 {
			continue
		}
		delete(d.codes, digest)
		c.letGo()
		if err := d.opts.Keep.Forget(c.kept); err != nil {
			d.events.ofPlane("CodeKept", levelWarning, err.Error())
		}
	}
}

// restoreCodes loads the codes that are kept. One that cannot be loaded is
// forgotten: its chains miss it, and say so.
func (d *Dataplane) restoreCodes() {
	for _, name := range d.opts.Keep.Names() {
		rest, ok := strings.CutPrefix(name, codesName)
		if !ok {
			continue
		}
		text, digest, _ := strings.Cut(rest, "/")
		if err := d.restoreCode(name, text, digest); err != nil {
			d.events.ofPlane("CodeLost", levelError, err.Error())
			_ = d.opts.Keep.Forget(name) // it is of no use
		}
	}
}

func (d *Dataplane) restoreCode(name, text, digest string) error {
	size, err := strconv.Atoi(text)
	if err != nil {
		return fmt.Errorf("kept code %s: no size in its name", name)
	}
	region, _, err := d.opts.Keep.Open(name, size, arena.Options{})
	if err != nil {
		return err
	}
	defer region.Close()
	return d.loadCode(name, digest, region.Bytes())
}
