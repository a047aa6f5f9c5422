package wasm

// #include "shim.h"
import "C"

import "math/bits"

// setPorts changes the ports that functions may send on.
func (c chain) setPorts(ports uint64) {
	c.c.ports = C.uint64_t(ports)
	c.c.egress = C.uint16_t(bits.TrailingZeros64(ports))
}

// SetEgress changes the set of ports that the functions may send on, see
// GroupOptions.Egress; it is not empty. The worker calls it between two bursts.
func (g *Group) SetEgress(ports uint64) { g.c.setPorts(ports) }
