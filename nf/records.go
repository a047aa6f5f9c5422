package nf

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
)

// Records are what a function exports with sfc.emit: a few bytes, of one of the
// layouts that its manifest lists.

const (
	// RecordMax is the longest record in bytes.
	RecordMax = 512
	// MaxRecordLayouts is the most layouts of one function, MaxRecordFields the
	// most fields of one layout.
	MaxRecordLayouts = 16
	MaxRecordFields  = 64

	recordHead = 4 // bytes: number of the layout, 16 bits, and 16 that are 0
)

// RecordLayout is one kind of record. A record begins with the number of its
// layout, the index in the manifest, as 16 bits, and 16 more that are 0; offsets
// count from there. Numbers are little-endian, addresses in network byte order.
type RecordLayout struct {
	Name   string        `json:"name"`
	Fields []RecordField `json:"fields"`
}

// RecordField is one value of a record.
type RecordField struct {
	// Name is an information element of IPFIX (the IANA registry, RFC 5103 for
	// reverse ones) where there is one, else a name in the same style.
	Name string `json:"name"`
	// Type is an abstract data type of IPFIX (RFC 7012, section 3.1): see
	// recordTypes.
	Type string `json:"type"`
	// Offset is in bytes.
	Offset int `json:"offset"`
}

// recordTypes are the types that fields may have, with their sizes in bytes.
var recordTypes = map[string]int{
	"unsigned8": 1, "unsigned16": 2, "unsigned32": 4, "unsigned64": 8,
	"ipv4Address": 4, "ipv6Address": 16, "macAddress": 6,
}

var (
	elementRE = regexp.MustCompile(`^[a-z][A-Za-z0-9]{0,62}$`)
	recordRE  = metricRE
)

// Size is the least number of bytes that a record of the layout has.
func (l *RecordLayout) Size() int {
	size := recordHead
	for _, f := range l.Fields {
		size = max(size, f.Offset+recordTypes[f.Type])
	}
	return size
}

// RecordLayout returns the layout of a record; nil when it names none, or is
// shorter than it.
func (m *Manifest) RecordLayout(record []byte) *RecordLayout {
	if len(record) < recordHead {
		return nil
	}
	n := int(binary.LittleEndian.Uint16(record))
	if n >= len(m.Records) || len(record) < m.Records[n].Size() {
		return nil
	}
	return &m.Records[n]
}

// AppendJSON appends a record of this layout to dst as members of a JSON object,
// each with a comma in front, in the order of the manifest. Numbers are numbers,
// also above 2^53; addresses are strings (RFC 7373).
func (l *RecordLayout) AppendJSON(dst, record []byte) []byte {
	for _, f := range l.Fields {
		dst = append(dst, `,"`...)
		dst = append(dst, f.Name...)
		dst = append(dst, `":`...)
		dst = f.appendValue(dst, record[f.Offset:])
	}
	return dst
}

func (f *RecordField) appendValue(dst, b []byte) []byte {
	switch f.Type {
	case "unsigned8":
		return strconv.AppendUint(dst, uint64(b[0]), 10)
	case "unsigned16":
		return strconv.AppendUint(dst, uint64(binary.LittleEndian.Uint16(b)), 10)
	case "unsigned32":
		return strconv.AppendUint(dst, uint64(binary.LittleEndian.Uint32(b)), 10)
	case "unsigned64":
		return strconv.AppendUint(dst, binary.LittleEndian.Uint64(b), 10)
	}
	dst = append(dst, '"')
	switch f.Type {
	case "ipv4Address":
		dst = netip.AddrFrom4([4]byte(b)).AppendTo(dst)
	case "ipv6Address":
		dst = netip.AddrFrom16([16]byte(b)).AppendTo(dst)
	case "macAddress":
		dst = fmt.Appendf(dst, "%02x:%02x:%02x:%02x:%02x:%02x", b[0], b[1], b[2], b[3], b[4], b[5])
	}
	return append(dst, '"')
}
