package nf

import (
	"encoding/json"
	"maps"
	"slices"
)

// FlowState returns the bytes of state that the function keeps per flow with a
// configuration: [Manifest.FlowStateBytes], or 0 when the configuration lacks
// what [Manifest.FlowStateWhen] asks for. A configuration that cannot be read
// counts as {}; [Manifest.CheckConfig] refuses it.
func (m *Manifest) FlowState(config []byte) int {
	if len(m.FlowStateWhen) == 0 {
		return m.FlowStateBytes
	}
	var fields map[string]any
	if json.Unmarshal(config, &fields) != nil {
		fields = nil
	}
	for name, want := range m.FlowStateWhen {
		if fields[name] != any(want) {
			return 0
		}
	}
	return m.FlowStateBytes
}

// checkFlowState checks the fields about flow state.
func (d *manifestDecoder) checkFlowState(m *Manifest) {
	const most = 8
	if m.BothDirections && m.FlowStateBytes == 0 {
		d.refuse("ask for it only together with flow_state_bytes: it says who shares that state", "both_directions without flow state")
	}
	switch n := len(m.FlowStateWhen); {
	case n > 0 && m.FlowStateBytes == 0:
		d.refuse("give it only together with flow_state_bytes: it says when there is that state", "flow_state_when without flow state")
	case n > most:
		d.refuse("at most 8 fields are compared", "flow_state_when: %d fields", n)
	default:
		for _, name := range slices.Sorted(maps.Keys(m.FlowStateWhen)) {
			if !metricRE.MatchString(name) || len(m.FlowStateWhen[name]) > maxLabel {
				d.refuse("use field names of a-z, 0-9 and _ and values of at most 63 bytes", "flow_state_when %q: %q", abbreviate(name), abbreviate(m.FlowStateWhen[name]))
			}
		}
	}
}
