package keeper

import (
	"errors"
	"strings"
	"testing"

	"sfc/ctrl/kernelipc"
)

// Whatever the data plane asks for, ports are where the operator wants them.
func TestInterfacesForPorts(t *testing.T) {
	for _, tt := range []struct {
		patterns []string
		name     string
		allowed  bool
	}{
		{nil, "eth0", true},
		{[]string{"eth1", "veth*"}, "eth1", true},
		{[]string{"eth1", "veth*"}, "veth7", true},
		{[]string{"eth1", "veth*"}, "eth0", false},
		{[]string{"eth1", "veth*"}, "eth10", false},
		{[]string{"["}, "[", false},
	} {
		h := NewHalf(nil, nil, tt.patterns...)
		if err := h.allowed(tt.name); errors.Is(err, ErrForbidden) == tt.allowed || !tt.allowed && !strings.Contains(err.Error(), tt.name) {
			t.Errorf("%q on %s: %v", tt.patterns, tt.name, err)
		}
	}
	h := NewHalf(nil, nil, "eth1")
	if _, err := h.addPort(kernelipc.AddPort{Interface: "lo", Mode: "auto", Bind: "auto", Unmatched: "pass"}); !errors.Is(err, ErrForbidden) {
		t.Errorf("a port on lo: %v", err)
	}
}
