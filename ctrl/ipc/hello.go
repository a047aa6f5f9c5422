package ipc

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
)

// version is that of frames and hellos.
const version = 1

// hello is what each side says first.
type hello struct {
	Version int `json:"version"`
	// Name is the process's role, for messages.
	Name string `json:"name"`
	// Interfaces are the versions of what goes over the connection.
	Interfaces map[string]int `json:"interfaces,omitempty"`
}

func (h *hello) frame() (*frame, error) {
	body, err := json.Marshal(h)
	if err != nil {
		return nil, err
	}
	return &frame{Kind: kindHello, Body: body}, nil
}

// parseHello reads the other side's hello.
func parseHello(f *frame) (*hello, error) {
	if f.Kind != kindHello {
		return nil, fmt.Errorf("%w: a connection begins with %.20q instead of a hello", ErrProtocol, f.Kind)
	}
	h := &hello{}
	if err := json.Unmarshal(f.Body, h); err != nil {
		return nil, fmt.Errorf("%w: hello: %w", ErrProtocol, err)
	}
	if len(h.Name) > 64 || len(h.Interfaces) > 64 {
		return nil, fmt.Errorf("%w: hello with a name of %d bytes and %d interfaces", ErrProtocol, len(h.Name), len(h.Interfaces))
	}
	return h, nil
}

// agree returns an error where the two sides speak different versions. What
// only one of them speaks is none.
func (h *hello) agree(other *hello) error {
	if h.Version != other.Version {
		return fmt.Errorf("%w: frames of %s have version %d, of %.64q %d: replace the older one",
			ErrVersion, h.Name, h.Version, other.Name, other.Version)
	}
	for _, name := range slices.Sorted(maps.Keys(h.Interfaces)) {
		if v, both := other.Interfaces[name]; both && v != h.Interfaces[name] {
			return fmt.Errorf("%w: %s speaks version %d of %s, %.64q speaks %d: replace the older one",
				ErrVersion, h.Name, h.Interfaces[name], name, other.Name, v)
		}
	}
	return nil
}
