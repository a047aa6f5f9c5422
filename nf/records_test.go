package nf

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

const recordManifest = `{"name":"a","version":"1.0.0","abi":1,"capabilities":["emit"],"records":[
	{"name":"tiny","fields":[{"name":"protocolIdentifier","type":"unsigned8","offset":4}]},
	{"name":"all","fields":[
		{"name":"protocolIdentifier","type":"unsigned8","offset":4},
		{"name":"sourceTransportPort","type":"unsigned16","offset":6},
		{"name":"ingressInterface","type":"unsigned32","offset":8},
		{"name":"octetDeltaCount","type":"unsigned64","offset":12},
		{"name":"sourceIPv4Address","type":"ipv4Address","offset":20},
		{"name":"destinationIPv6Address","type":"ipv6Address","offset":24},
		{"name":"sourceMacAddress","type":"macAddress","offset":40}]}]}`

func TestRecordLayout(t *testing.T) {
	m, err := ParseManifest([]byte(recordManifest))
	if err != nil {
		t.Fatal(err)
	}
	record := []byte("\x01\x00\x00\x00\x11\x00\x35\x00\x01\x00\x00\x00" + "\xff\xff\xff\xff\xff\xff\xff\xff" + "\x0a\x00\x00\x01" +
		"\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x09" + "\x02\xaa\x00\x00\x00\x01")
	l := m.RecordLayout(record)
	if l == nil || l.Name != "all" || l.Size() != len(record) {
		t.Fatalf("layout %+v of %d bytes", l, len(record))
	}
	const want = `,"protocolIdentifier":17,"sourceTransportPort":53,"ingressInterface":1,"octetDeltaCount":18446744073709551615,` +
		`"sourceIPv4Address":"10.0.0.1","destinationIPv6Address":"2001:db8::9","sourceMacAddress":"02:aa:00:00:00:01"`
	got := string(l.AppendJSON(nil, record))
	if got != want || !json.Valid([]byte("{"+got[1:]+"}")) {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	for name, bad := range map[string][]byte{"empty": nil, "no number": record[:3], "short": record[:len(record)-1], "unknown": []byte("\x02\x00\x00\x00\x00\x00\x00\x00")} {
		if l := m.RecordLayout(bad); l != nil {
			t.Errorf("%s: taken for %s", name, l.Name)
		}
	}
	if l := m.RecordLayout(make([]byte, 8)); l == nil || l.Name != "tiny" {
		t.Errorf("the first layout: %+v", l)
	}
}

func TestRecordsRefused(t *testing.T) {
	field := `{"name":"octetDeltaCount","type":"unsigned64","offset":%d}`
	with := func(records string) string {
		return `{"name":"a","version":"1.0.0","abi":1,"capabilities":["emit"],"records":` + records + `}`
	}
	one := func(fields string) string { return with(`[{"name":"r","fields":[` + fields + `]}]`) }
	many := make([]string, 65)
	for i := range many {
		many[i] = fmt.Sprintf(`{"name":"f%d","type":"unsigned8","offset":%d}`, i, 4+i)
	}
	for _, tt := range []struct{ name, in, want string }{
		{"no capability", strings.Replace(one(fmt.Sprintf(field, 4)), `["emit"]`, `[]`, 1), "records of a function that emits none"},
		{"no records", `{"name":"a","version":"1.0.0","abi":1,"capabilities":["emit"]}`, "no records of a function that emits some"},
		{"not layouts", with(`[1]`), "records is [1]: give an array of {name"},
		{"unknown field", one(`{"name":"a","type":"unsigned8","ofset":4}`), "give an array of {name"},
		{"no layout", with(`[null]`), "records is [null]: give an array of {name"},
		{"layout twice", with(`[{"name":"r","fields":[` + many[0] + `]},{"name":"r","fields":[` + many[0] + `]}]`), `records[1]: "r" twice`},
		{"no fields", one(``), "records[0]: 0 fields"},
		{"too many fields", one(strings.Join(many, ",")), "records[0]: 65 fields"},
		{"name", one(`{"name":"Octets","type":"unsigned8","offset":4}`), `fields[0]: name "Octets": use an information element`},
		{"name that is JSON", one(`{"name":"a\"b","type":"unsigned8","offset":4}`), "fields[0]: name"},
		{"the host's name", one(`{"name":"function","type":"unsigned8","offset":4}`), `"function" twice`},
		{"name twice", one(many[1] + "," + many[1]), `"f1" twice`},
		{"type", one(`{"name":"a","type":"unsigned","offset":4}`), `unknown type "unsigned": did you mean "unsigned`},
		{"in the head", one(fmt.Sprintf(field, 3)), "offset 3: use 4 to 512"},
		{"negative", one(fmt.Sprintf(field, -8)), "offset -8"},
		{"past the end", one(fmt.Sprintf(field, 505)), "offset 505"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := ParseManifest([]byte(tt.in))
			wantRefusal(t, err, ErrManifest, tt.want)
		})
	}
	if _, err := ParseManifest([]byte(one(fmt.Sprintf(field, 504)))); err != nil {
		t.Errorf("the last place: %v", err)
	}
}
