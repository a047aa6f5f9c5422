package capture

import (
	"math"
	"math/bits"
)

// Options of an interface description block that matter here.
const (
	optEnd      = 0
	optTSResol  = 9
	optTSOffset = 14
)

// ngInterface is what an interface description says.
type ngInterface struct {
	linkType uint16
	snapLen  uint32 // bytes; 0: no limit
	// A tick is 2^-exponent s when binary, else 10^-exponent s.
	binary   bool
	exponent uint
	offset   int64 // seconds to add to every time stamp
}

// iface reads an interface description: link type, two unused bytes, snap
// length, options.
func (ng *ngReader) iface() error {
	if ng.left > maxInterface {
		return ng.corrupt("interface description of %d bytes is above %d", ng.left, maxInterface)
	}
	b := make([]byte, ng.left)
	if err := ng.body(b); err != nil {
		return err
	}
	if len(b) < 8 {
		return ng.corrupt("interface description of %d bytes is below 8", len(b))
	}
	ifc := ngInterface{linkType: ng.order.Uint16(b), snapLen: ng.order.Uint32(b[4:]), exponent: 6}
	for b = b[8:]; len(b) >= 4; {
		code, n := ng.order.Uint16(b), int(ng.order.Uint16(b[2:]))
		if code == optEnd {
			break
		}
		b = b[4:]
		if n > len(b) {
			return ng.corrupt("option %d of interface %d has %d bytes where %d are left", code, len(ng.ifaces), n, len(b))
		}
		switch {
		case code == optTSResol && n == 1:
			ifc.binary, ifc.exponent = b[0]&0x80 != 0, uint(b[0]&0x7f)
		case code == optTSOffset && n == 8:
			ifc.offset = int64(ng.order.Uint64(b))
		case code == optTSResol || code == optTSOffset:
			return ng.corrupt("option %d of interface %d has %d bytes", code, len(ng.ifaces), n)
		}
		b = b[min((n+3)&^3, len(b)):]
	}
	ng.ifaces = append(ng.ifaces, ifc)
	return nil
}

// timeNs converts a time stamp to ns since 1970; ok is false when it does not
// fit. Fractions of a ns are cut off.
func (i *ngInterface) timeNs(ticks uint64) (ns int64, ok bool) {
	// ticks * num / den, in 128 bits between.
	var hi, lo uint64
	switch {
	case i.binary && i.exponent < 128:
		hi, lo = bits.Mul64(ticks, 1e9)
		if i.exponent >= 64 {
			hi, lo = 0, hi>>(i.exponent-64)
		} else {
			hi, lo = hi>>i.exponent, lo>>i.exponent|hi<<(64-i.exponent)
		}
	case i.exponent <= 9:
		hi, lo = bits.Mul64(ticks, pow10(9-i.exponent))
	case i.exponent-9 <= 19:
		lo = ticks / pow10(i.exponent-9)
	}
	if hi != 0 || lo > math.MaxInt64 {
		return 0, false
	}
	const maxSeconds = math.MaxInt64 / int64(1e9)
	if i.offset > maxSeconds || i.offset < -maxSeconds {
		return 0, false
	}
	base := i.offset * 1e9
	ns = base + int64(lo)
	if ns < 0 || base > 0 && ns < base {
		return 0, false
	}
	return ns, true
}

// pow10 returns 10^n for n up to 19.
func pow10(n uint) uint64 {
	p := uint64(1)
	for range n {
		p *= 10
	}
	return p
}
