package keeper

import (
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"

	"sfc/ctrl/ipc"
	"sfc/ctrl/kernelipc"
)

// What a new supervisor takes back comes from the data plane: a record that no
// supervisor wrote is refused, without a panic and without touching interfaces.
func TestForgedRecords(t *testing.T) {
	lo, err := net.InterfaceByName("lo")
	if err != nil {
		t.Skipf("no interface to name: %v", err)
	}
	port := func(index int, name string) *halfPort {
		return &halfPort{Port: kernelipc.Port{Index: index, Interface: name, Ifindex: lo.Index + 1}, Answers: []netip.Prefix{netip.MustParsePrefix("192.0.2.1/32")}}
	}
	h := NewHalf(newKept(), slog.New(slog.DiscardHandler), "lo")
	for want, ports := range map[string][]*halfPort{
		"not a supervisor's":  {nil},
		"is not a supervisor": {port(-1, "lo")},
		"record of ports":     {port(0, "lo"), port(0, "lo")},
		"not for ports":       {port(0, "eth0")},
	} {
		r := record{Ports: ports}
		if err := h.check(&r); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", ports, err, want)
		}
		if err := h.saveJSON(recordName, r); err != nil {
			t.Fatal(err)
		}
		if err := h.Recover(); err == nil || h.kept.Len() != 0 {
			t.Errorf("%+v was recovered: %v, %q", ports, err, h.kept.Names())
		}
	}
	good := record{Ports: []*halfPort{port(0, "lo"), port(1, "lo")}}
	if err := h.check(&good); err != nil || len(good.Ports[0].Answers) != 0 {
		t.Errorf("%v; answers on another interface: %v", err, good.Ports[0].Answers)
	}
}

// Nor is anything taken back as memory that is none.
func TestOnlyMemoryIsTakenBack(t *testing.T) {
	theirs := newKept()
	defer theirs.close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	if err := theirs.Put("umem", null); err != nil {
		t.Fatal(err)
	}
	m := ipc.NewMux()
	theirs.serve(m)
	a, b, err := ipc.Pair()
	if err != nil {
		t.Fatal(err)
	}
	other := make(chan *ipc.Conn)
	go func() {
		c, err := ipc.Open(t.Context(), b, ipc.Options{Mux: m})
		if err != nil {
			t.Error(err)
		}
		other <- c
	}()
	c, err := ipc.Open(t.Context(), a, ipc.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	defer (<-other).Close()
	ours := newKept()
	defer ours.close()
	if err := ours.takeBack(t.Context(), c); err == nil || !strings.Contains(err.Error(), "umem") || ours.Len() != 0 {
		t.Errorf("%v, and %q are kept", err, ours.Names())
	}
}

// An interface that is there is not taken over as the device to the stack.
func TestStackIsNobodyElses(t *testing.T) {
	if _, err := net.InterfaceByName("lo"); err != nil {
		t.Skipf("no interface to name: %v", err)
	}
	h := NewHalf(newKept(), nil)
	if _, err := h.openStack(kernelipc.Stack{Name: "lo"}); err == nil || !strings.Contains(err.Error(), "of that name") {
		t.Errorf("lo as the stack's device: %v", err)
	}
}
