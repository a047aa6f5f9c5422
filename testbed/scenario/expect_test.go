package scenario

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"sfc/testbed/capture"
	"sfc/testbed/replay"
)

// diffPackets says how the packets that came out differ from those wanted.
func diffPackets(got []capture.Packet, want []timed) (complaints []string) {
	// Where nothing comes out of port in, a capture does not tell the ports apart.
	ports := map[string]int{}
	if slices.ContainsFunc(want, func(p timed) bool { return p.port == "in" }) {
		ports[""], ports["out"] = 1, 1
	}
	for i := range max(len(got), len(want)) {
		switch {
		case i >= len(want):
			complaints = append(complaints, fmt.Sprintf("packet %d came out and is not in want.out:\n%s", i+1, hex.Dump(got[i].Data)))
		case i >= len(got):
			complaints = append(complaints, fmt.Sprintf("packet %d of want.out did not come out: %s", i+1, want[i].line))
		case !bytes.Equal(got[i].Data, want[i].frame):
			complaints = append(complaints, fmt.Sprintf("packet %d differs from want.out at byte %d: %s\ngot:\n%swant:\n%s",
				i+1, firstDiff(got[i].Data, want[i].frame), want[i].line, hex.Dump(got[i].Data), hex.Dump(want[i].frame)))
		case got[i].Interface != ports[want[i].port]:
			complaints = append(complaints, fmt.Sprintf("packet %d came out of the other port: %s", i+1, want[i].line))
		}
	}
	return complaints
}

func firstDiff(a, b []byte) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}

func parseReport(data []byte) (m map[string]any, err error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	return m, dec.Decode(&m)
}

// account are the fields every want.json has: with them nothing goes missing
// unnoticed.
var account = []string{"sent", "received", "passed", "dropped"}

func checkWant(want map[string]any) error {
	for _, name := range account {
		if want[name] == nil {
			return fmt.Errorf("%s is missing: every report accounts for all packets", name)
		}
	}
	return nil
}

// diffReport says where a report differs from what is wanted of it. The report
// may have more, except in the drops.
func diffReport(rep *replay.Report, want map[string]any) ([]string, error) {
	data, err := json.Marshal(rep)
	if err != nil {
		return nil, err
	}
	got, err := parseReport(data)
	if err != nil {
		return nil, err
	}
	complaints := diffValue("", got, want)
	wanted, _ := want["dropped"].(map[string]any)
	for reason, n := range rep.Dropped {
		if wanted[reason] == nil {
			complaints = append(complaints, fmt.Sprintf("dropped: %d as %s, which is not in want.json", n, reason))
		}
	}
	for _, name := range []string{"lost", "reordered", "foreign"} {
		complaints = append(complaints, diffValue(name, got[name], json.Number("0"))...)
	}
	return complaints, nil
}

// diffValue compares what is wanted; a list of things with names, such as the
// functions, is wanted as an object by name. A number that is not there is 0.
func diffValue(path string, got, want any) (complaints []string) {
	fields, ok := want.(map[string]any)
	if !ok {
		if got == nil && want == any(json.Number("0")) {
			return nil
		}
		if got != want {
			return []string{fmt.Sprintf("%s is %v, want %v", path, got, want)}
		}
		return nil
	}
	have, ok := got.(map[string]any)
	if list, isList := got.([]any); isList {
		have, ok = byName(list), true
	}
	if !ok && got != nil {
		return []string{fmt.Sprintf("%s is %v, want an object", path, got)}
	}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		complaints = append(complaints, diffValue(path+"/"+name, have[name], fields[name])...)
	}
	return complaints
}

// byName indexes a list of objects by their field "name".
func byName(list []any) map[string]any {
	m := map[string]any{}
	for _, v := range list {
		if o, ok := v.(map[string]any); ok {
			if name, ok := o["name"].(string); ok {
				m[name] = v
			}
		}
	}
	return m
}
