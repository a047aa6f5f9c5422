package nf

import (
	"encoding/json"
	"fmt"
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

// StateLayout names the layout of the function's flow state with a
// configuration: what its bytes mean, and how many there are. Two functions
// whose layouts are equal can take over each other's state. Empty when there
// is none.
func (m *Manifest) StateLayout(config []byte) string {
	size := m.FlowState(config)
	switch {
	case size == 0:
		return ""
	case m.FlowStateLayout != "":
		return fmt.Sprintf("layout %s, %d bytes", m.FlowStateLayout, size)
	}
	return fmt.Sprintf("function %s, %d bytes", m.Name, size)
}

// checkFlowState checks the fields about flow state.
func (d *manifestDecoder) checkFlowState(m *Manifest) {
	const most = 8
	if m.BothDirections && m.FlowStateBytes == 0 {
		d.refuse("ask for it only together with flow_state_bytes: it says who shares that state", "both_directions without flow state")
	}
	if m.FlowStateLayout != "" {
		if m.FlowStateBytes == 0 {
			d.refuse("give it only together with flow_state_bytes: it says what they mean", "flow_state_layout without flow state")
		}
		if !layoutRE.MatchString(m.FlowStateLayout) {
			d.refuse("use 1 to 63 of a-z, 0-9, '.', '/', '_' and '-', such as firewall/2", "flow_state_layout %q", abbreviate(m.FlowStateLayout))
		}
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
