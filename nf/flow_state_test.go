package nf

import "testing"

// State per flow exists when the configuration asks for it, or always.
func TestFlowState(t *testing.T) {
	head := `{"name":"a","version":"1.0.0","abi":1,"flow_state_bytes":32`
	for _, tt := range []struct {
		manifest, config string
		want             int
	}{
		{head + `}`, `{}`, 32},
		{head + `,"flow_state_when":{}}`, `{}`, 32},
		{head + `,"flow_state_when":{"key":"flow"}}`, ``, 0},
		{head + `,"flow_state_when":{"key":"flow"}}`, `{}`, 0},
		{head + `,"flow_state_when":{"key":"flow"}}`, `[`, 0},
		{head + `,"flow_state_when":{"key":"flow"}}`, `{"key":"src"}`, 0},
		{head + `,"flow_state_when":{"key":"flow"}}`, `{"key":7}`, 0},
		{head + `,"flow_state_when":{"key":"flow"}}`, `{"rate":1,"key":"flow"}`, 32},
		{head + `,"flow_state_when":{"key":"flow","mode":"b"}}`, `{"key":"flow"}`, 0},
		{head + `,"flow_state_when":{"key":"flow","mode":"b"}}`, `{"key":"flow","mode":"b"}`, 32},
	} {
		m, err := ParseManifest([]byte(tt.manifest))
		if err != nil {
			t.Fatal(err)
		}
		if got := m.FlowState([]byte(tt.config)); got != tt.want {
			t.Errorf("%s with %s: %d bytes per flow, want %d", tt.manifest, tt.config, got, tt.want)
		}
	}
}

// Layouts are equal when their names and sizes are, and a name of its own
// stands for the function's.
func TestStateLayout(t *testing.T) {
	for _, tt := range []struct{ fields, config, want string }{
		{``, `{}`, ""},
		{`,"flow_state_bytes":16`, `{}`, "function fw, 16 bytes"},
		{`,"flow_state_bytes":16,"flow_state_layout":"firewall/2"`, `{}`, "layout firewall/2, 16 bytes"},
		{`,"flow_state_bytes":16,"flow_state_layout":"firewall/2","flow_state_when":{"key":"flow"}`, `{}`, ""},
	} {
		m, err := ParseManifest([]byte(`{"name":"fw","version":"1.0.0","abi":1` + tt.fields + `}`))
		if err != nil {
			t.Fatal(err)
		}
		if got := m.StateLayout([]byte(tt.config)); got != tt.want {
			t.Errorf("%s: layout %q, want %q", tt.fields, got, tt.want)
		}
	}
}
