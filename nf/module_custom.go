package nf

import (
	"bytes"
	"encoding/binary"
)

// readCustom notes a custom section, copies a manifest and looks up the stack
// pointer in the name section.
func (m *Module) readCustom(s *reader) {
	name := s.name()
	if s.err != nil {
		return
	}
	if len(m.Custom) == maxCustom {
		s.fail("more than %d custom sections", maxCustom)
		return
	}
	m.Custom = append(m.Custom, CustomSection{name, s.remaining()})
	switch {
	case name == ManifestSection && m.Manifest == nil:
		m.Manifest = append([]byte{}, s.bytes(s.remaining())...)
	case name == "name":
		m.readNames(*s)
	}
}

// readNames finds the global named __stack_pointer in the name section. As the
// specification asks, a damaged name section is no error.
func (m *Module) readNames(s reader) {
	const globalNames = 7
	for s.err == nil && s.remaining() > 0 {
		id := s.byte()
		sub := s.sub(int(s.u32()))
		if id != globalNames {
			continue
		}
		n := sub.count("names", 2, maxGlobals)
		for i := 0; i < n && sub.err == nil; i++ {
			idx, name := sub.u32(), sub.bytes(int(sub.u32()))
			if string(name) == "__stack_pointer" {
				m.stackPointer = int(idx)
			}
		}
	}
}

// AppendManifest returns a copy of the module wasm with manifest as its only
// manifest section, at the end. It does not look into the manifest.
func AppendManifest(wasm, manifest []byte) ([]byte, error) {
	if err := checkHeader(wasm); err != nil {
		return nil, err
	}
	out := make([]byte, 0, len(wasm)+len(manifest)+32)
	out = append(out, wasm[:8]...)
	r := reader{buf: wasm, pos: 8}
	for r.remaining() > 0 {
		start := r.pos
		id := r.byte()
		s := r.sub(int(r.u32()))
		if r.err != nil {
			return nil, r.err
		}
		if id == secCustom && bytes.Equal(s.bytes(int(s.u32())), []byte(ManifestSection)) {
			continue
		}
		out = append(out, wasm[start:r.pos]...)
	}
	var body []byte
	body = binary.AppendUvarint(body, uint64(len(ManifestSection)))
	body = append(append(body, ManifestSection...), manifest...)
	out = append(out, secCustom)
	out = binary.AppendUvarint(out, uint64(len(body)))
	return append(out, body...), nil
}
