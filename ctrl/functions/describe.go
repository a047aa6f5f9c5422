package functions

import (
	"encoding/binary"
	"slices"
	"strings"
	"unicode"

	"sfc/ctrl/api"
	"sfc/nf"
)

// summary is what of a manifest is kept beside the module.
func summary(m *nf.Manifest) api.ManifestSummary {
	return api.ManifestSummary{
		Name: m.Name, Version: m.Version, ABI: m.ABI,
		FlowStateBytes: m.FlowStateBytes, BothDirections: m.BothDirections, LiveConfigure: m.LiveConfigure,
		Capabilities: m.Capabilities, Counters: m.Counters, DropReasons: m.DropReasons, ConfigSchema: m.ConfigSchema,
	}
}

// maxSource is the longest source that is kept, in bytes.
const maxSource = 512

// clean makes what somebody wrote fit for a terminal.
func clean(s string) string {
	s = strings.Map(func(c rune) rune {
		if !unicode.IsPrint(c) {
			return -1
		}
		return c
	}, s[:min(len(s), maxSource)])
	return strings.ToValidUTF8(s, "")
}

// Bounds of what is kept of a producers section.
const (
	maxProducers    = 16
	maxProducerText = 128
)

// producers returns what built a module, as "processed-by clang 19.1.4", from
// its producers section (tool-conventions/ProducersSection.md). It is the
// builder's word and proves nothing; a section that makes no sense gives
// nothing. The module is one that [nf.Inspect] has read.
func producers(wasm []byte) (all []string) {
	section := custom(wasm, "producers")
	defer func() {
		slices.Sort(all)
		all = slices.Compact(all)
	}()
	for fields := section.count(); fields > 0; fields-- {
		field := section.text()
		for values := section.count(); values > 0; values-- {
			name, version := section.text(), section.text()
			if section.bad || len(all) == maxProducers {
				return all
			}
			all = append(all, clean(strings.TrimSpace(field+" "+name+" "+version)))
		}
	}
	return all
}

// custom returns the first custom section of that name, empty when there is none.
func custom(wasm []byte, name string) cursor {
	c := cursor{b: wasm[min(8, len(wasm)):]}
	for len(c.b) > 0 && !c.bad {
		id := c.b[0]
		c.b = c.b[1:]
		s := cursor{b: c.take(c.count())}
		if id == 0 && s.text() == name && !s.bad {
			return s
		}
	}
	return cursor{}
}

// cursor reads a custom section. After something that makes no sense it is bad
// and gives zeros.
type cursor struct {
	b   []byte
	bad bool
}

// count reads a number, which is never more than there are bytes left.
func (c *cursor) count() int {
	n, used := binary.Uvarint(c.b)
	if used <= 0 || n > uint64(len(c.b)-used) {
		c.b, c.bad = nil, true
		return 0
	}
	c.b = c.b[used:]
	return int(n)
}

func (c *cursor) take(n int) []byte {
	if n > len(c.b) {
		c.b, c.bad = nil, true
		return nil
	}
	b := c.b[:n]
	c.b = c.b[n:]
	return b
}

// text reads a string, shortened to what is kept.
func (c *cursor) text() string {
	b := c.take(c.count())
	return string(b[:min(len(b), maxProducerText)])
}
