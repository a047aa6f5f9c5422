package nf

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
)

// recordLayouts decodes strictly, as the manifest around it is decoded.
type recordLayouts []RecordLayout

func (l *recordLayouts) UnmarshalJSON(data []byte) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	return d.Decode((*[]RecordLayout)(l))
}

// checkRecords checks the layouts of the records that a function emits.
func (d *manifestDecoder) checkRecords(m *Manifest) {
	emits := slices.Contains(m.Capabilities, CapabilityEmit)
	switch n := len(m.Records); {
	case n > 0 && !emits:
		d.refuse(`add "emit" to its capabilities`, "records of a function that emits none")
	case n == 0 && emits:
		d.refuse("list the layouts of what it emits", "no records of a function that emits some")
	case n > MaxRecordLayouts:
		d.refuse("at most 16 are allowed", "records: %d layouts", n)
		return
	}
	names := map[string]bool{}
	for i := range m.Records {
		l := &m.Records[i]
		if !recordRE.MatchString(l.Name) {
			d.refuse("use 1 to 63 of a-z, 0-9 and _", "records[%d]: name %q", i, abbreviate(l.Name))
		} else if names[l.Name] {
			d.refuse("name each once", "records[%d]: %q twice", i, l.Name)
		}
		names[l.Name] = true
		d.checkFields(i, l)
	}
}

func (d *manifestDecoder) checkFields(i int, l *RecordLayout) {
	if n := len(l.Fields); n == 0 || n > MaxRecordFields {
		d.refuse("give 1 to 64", "records[%d]: %d fields", i, n)
		return
	}
	names := map[string]bool{"record": true, "function": true}
	for k, f := range l.Fields {
		size, known := recordTypes[f.Type]
		switch {
		case !elementRE.MatchString(f.Name):
			d.refuse("use an information element of IPFIX, such as octetDeltaCount", "records[%d].fields[%d]: name %q", i, k, abbreviate(f.Name))
		case names[f.Name]:
			d.refuse("name each once; record and function are the host's", "records[%d].fields[%d]: %q twice", i, k, f.Name)
		case !known:
			d.refuse(suggest(f.Type, slices.Sorted(maps.Keys(recordTypes))), "records[%d].fields[%d]: unknown type %q", i, k, abbreviate(f.Type))
		case f.Offset < recordHead || f.Offset > RecordMax-size:
			d.refuse("use 4 to 512 less the field's size: the number of the layout is in front", "records[%d].fields[%d]: offset %d", i, k, f.Offset)
		}
		names[f.Name] = true
	}
}
