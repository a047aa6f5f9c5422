package keeper

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"

	"sfc/bpf"
	"sfc/ctrl/ipc"
	"sfc/ctrl/kernelipc"
	"sfc/dataplane/xsk"
)

// Names of what the half keeps, all behind KernelPrefix:
//
//	view/...           what the data plane maps of the steering
//	steer/N/...        everything of the steering, as of its generation N
//	xsk/...            sockets
//	stack              the TAP device
//	record, rules      this half in JSON, in memfds
const (
	recordName = KernelPrefix + "record"
	rulesName  = KernelPrefix + "rules"

	recordMax = 16 << 20
)

func viewName(file string) string { return KernelPrefix + "view/" + file }

// record is what another supervisor must know.
type record struct {
	Opened   kernelipc.Open
	Region   uint64
	Key      [2]uint64
	Ports    []*halfPort
	Stack    *kernelipc.Stacked
	Steering bpf.Description
	// Files are those of the steering: names of bpf, and of what is kept.
	Files map[string]string
}

// exported is what was kept and held as of the last change.
type exported struct {
	generation uint64 // of the steering, and one more
	names      map[string]*os.File
}

// export keeps what the last change has made, and has the data plane hold it;
// nil is none, and the next one fetches it.
func (h *Half) export(ctx context.Context, by *ipc.Conn) error {
	if h.steer == nil {
		return nil
	}
	if err := h.keepSteering(); err != nil {
		return fmt.Errorf("keep the steering: %w", err)
	}
	if by == nil {
		return nil
	}
	return h.push(ctx, by)
}

// keepSteering keeps the steering's descriptors, and the record.
func (h *Half) keepSteering() error {
	generation := h.steer.Generation()
	d, files, err := h.steer.Export()
	if err != nil {
		return err
	}
	r := record{Opened: h.opened, Region: h.region, Key: h.key, Ports: h.sorted(), Stack: h.stack, Steering: d, Files: map[string]string{}}
	if h.exported.generation == generation+1 {
		for name, f := range files {
			f.Close()
			r.Files[name] = fmt.Sprintf("%ssteer/%d/%s", KernelPrefix, generation, name)
		}
		return h.saveJSON(recordName, r)
	}
	stale := h.kept.prefixed(KernelPrefix + "steer/")
	stale = append(stale, h.kept.prefixed(KernelPrefix+"view/")...)
	fresh := map[string]bool{}
	for name, f := range files {
		r.Files[name] = fmt.Sprintf("%ssteer/%d/%s", KernelPrefix, generation, name)
		fresh[r.Files[name]] = true
		err = errors.Join(err, h.kept.Put(r.Files[name], f))
	}
	_, view, viewErr := h.steer.ExportView()
	for name, f := range view {
		fresh[viewName(name)] = true
		err = errors.Join(err, h.kept.Put(viewName(name), f))
	}
	if err = errors.Join(err, viewErr); err != nil {
		return err
	}
	h.kept.Forget(slices.DeleteFunc(stale, func(n string) bool { return fresh[n] })...)
	h.exported.generation = generation + 1
	return h.saveJSON(recordName, r)
}

// saveJSON keeps v under a name.
func (h *Half) saveJSON(name string, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	f, err := ipc.Memfd("sfc-record", text)
	if err != nil {
		return err
	}
	return h.kept.Put(name, f)
}

func (h *Half) saveRules() error { return h.saveJSON(rulesName, h.rules) }

// push has the data plane hold what is new under KernelPrefix.
func (h *Half) push(ctx context.Context, conn *ipc.Conn) error {
	now := h.kept.snapshot(KernelPrefix)
	var drop, names []string
	for name := range h.exported.names {
		if now[name] == nil {
			drop = append(drop, name)
		}
	}
	for name, f := range now {
		if h.exported.names[name] != f {
			names = append(names, name)
		}
	}
	for first := true; first || len(names) > 0; first = false {
		part := names[:min(len(names), kernelipc.MaxFetch)]
		names = names[len(part):]
		var files []*os.File
		for _, name := range part {
			f, err := h.kept.Get(name)
			if err != nil {
				closeList(files)
				return err
			}
			files = append(files, f)
		}
		_, err := ipc.Do[kernelipc.None](ctx, conn, kernelipc.MethodHold, kernelipc.Hold{Drop: drop, Names: part}, files...)
		closeList(files)
		if err != nil {
			return fmt.Errorf("have the data plane hold the kernel's half: %w", err)
		}
		drop = nil
	}
	h.exported.names = now
	return nil
}

func closeList(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

// Recover implements [Kernel].
func (h *Half) Recover() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	f, err := h.kept.Get(recordName)
	if errors.Is(err, os.ErrNotExist) {
		return nil // it was never opened
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if err := h.recover(f); err != nil {
		return errors.Join(fmt.Errorf("take over the kernel's half: %w", err), h.takeDown())
	}
	return nil
}

func (h *Half) recover(f *os.File) error {
	var r record
	if err := readJSON(f, &r); err != nil {
		return err
	}
	if err := h.check(&r); err != nil {
		return err
	}
	files := map[string]*os.File{}
	defer func() { closeFiles(files) }()
	for name, kept := range r.Files {
		f, err := h.kept.Get(kept)
		if err != nil {
			return err
		}
		files[name] = f
	}
	var err error
	if h.steer, err = bpf.Adopt(r.Steering, files); err != nil {
		return err
	}
	h.opened, h.region, h.key, h.stack = r.Opened, r.Region, r.Key, r.Stack
	for _, p := range r.Ports {
		if err := h.recoverPort(p); err != nil {
			return fmt.Errorf("port %s: %w", p.Port.Interface, err)
		}
	}
	rules, err := h.kept.Get(rulesName)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer rules.Close()
	if err := readJSON(rules, &h.rules); err != nil {
		return err
	}
	return h.enforce()
}

// check refuses a record that no supervisor has written: it comes from the data
// plane, which must not get in this way what it would not get by asking.
func (h *Half) check(r *record) error {
	seen := map[int]bool{}
	for _, p := range r.Ports {
		if p == nil || p.Port.Index < 0 || p.Port.Index >= kernelipc.MaxPorts || seen[p.Port.Index] || len(p.Answers) > kernelipc.MaxPrefixes {
			return errors.New("the record of ports is not a supervisor's")
		}
		seen[p.Port.Index] = true
		if err := h.allowed(p.Port.Interface); err != nil {
			return err
		}
		// Of an interface that is gone there is nothing to find.
		if nic, err := net.InterfaceByName(p.Port.Interface); err == nil && nic.Index != p.Port.Ifindex && len(p.Answers) > 0 {
			p.Answers = nil
		}
	}
	return nil
}

// recoverPort takes a port over as it is.
func (h *Half) recoverPort(p *halfPort) (err error) {
	h.ports[p.Port.Index] = p
	for _, s := range p.Port.Sockets {
		handle := &xsk.Handle{}
		if err := json.Unmarshal(s.Grant, &handle.Grant); err != nil {
			return err
		}
		if handle.File, err = h.kept.Get(s.Name); err != nil {
			return err
		}
		p.handles = append(p.handles, handle)
		h.unbound = handle.Grant.Unbound
	}
	if err := h.openAnswers(); err != nil {
		return err
	}
	p.Answers = slices.DeleteFunc(p.Answers, func(prefix netip.Prefix) bool { return h.mayAnswer(prefix) != nil })
	if err := h.setAnswers(p, p.Answers); err != nil {
		h.log.Warn("not all addresses are answered for", "interface", p.Port.Interface, "error", err)
	}
	// What ended with the process that made it begins again.
	if p.nic, err = xsk.PrepareNIC(p.Port.Interface); err != nil {
		h.log.Warn("interface is not as it should be", "interface", p.Port.Interface, "error", err)
	}
	return nil
}

func readJSON(f *os.File, v any) error {
	text, err := ipc.ReadMemfd(f, recordMax)
	if err != nil {
		return err
	}
	return json.Unmarshal(text, v)
}

// prefixed returns the names that begin so.
func (k *Kept) prefixed(prefix string) []string {
	return slices.DeleteFunc(k.Names(), func(n string) bool { return !strings.HasPrefix(n, prefix) })
}

func (k *Kept) forgetPrefix(prefix string) { k.Forget(k.prefixed(prefix)...) }

// snapshot returns what is kept under names that begin so. The files are to be
// compared, and not used.
func (k *Kept) snapshot(prefix string) map[string]*os.File {
	k.mu.Lock()
	defer k.mu.Unlock()
	out := map[string]*os.File{}
	for name, f := range k.files {
		if strings.HasPrefix(name, prefix) {
			out[name] = f
		}
	}
	return out
}
