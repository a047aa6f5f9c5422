package capture

import (
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// pcapFile puts a pcap file together, whole or broken.
type pcapFile struct {
	order binary.ByteOrder
	b     []byte
}

func newPcap(order binary.ByteOrder, magic uint32, link uint32) *pcapFile {
	p := &pcapFile{order: order}
	return p.u32(magic).u16(2).u16(4).u32(0).u32(0).u32(96).u32(link)
}

func (p *pcapFile) record(sec, frac, capLen, origLen uint32, data string) *pcapFile {
	return p.u32(sec).u32(frac).u32(capLen).u32(origLen).raw(data)
}

func (p *pcapFile) u16(v uint16) *pcapFile {
	p.b = append(p.b, 0, 0)
	p.order.PutUint16(p.b[len(p.b)-2:], v)
	return p
}

func (p *pcapFile) u32(v uint32) *pcapFile {
	p.b = append(p.b, 0, 0, 0, 0)
	p.order.PutUint32(p.b[len(p.b)-4:], v)
	return p
}

func (p *pcapFile) raw(s string) *pcapFile {
	p.b = append(p.b, s...)
	return p
}

// block appends a pcapng block around body, padded to 32 bits.
func (p *pcapFile) block(typ uint32, body func(b *pcapFile)) *pcapFile {
	in := &pcapFile{order: p.order}
	body(in)
	for len(in.b)%4 != 0 {
		in.b = append(in.b, 0)
	}
	n := uint32(len(in.b) + 12)
	return p.u32(typ).u32(n).raw(string(in.b)).u32(n)
}

func (p *pcapFile) section() *pcapFile {
	return p.block(blockSection, func(b *pcapFile) {
		b.u32(byteOrderMagic).u16(1).u16(0).u32(0xffffffff).u32(0xffffffff)
	})
}

// ifc appends an interface description with options given as raw bytes.
func (p *pcapFile) ifc(link uint16, snap uint32, options func(b *pcapFile)) *pcapFile {
	return p.block(blockInterface, func(b *pcapFile) {
		b.u16(link).u16(0).u32(snap)
		if options != nil {
			options(b)
		}
	})
}

func resolution(v byte) func(b *pcapFile) {
	return func(b *pcapFile) { b.u16(optTSResol).u16(1).raw(string([]byte{v, 0, 0, 0})).u32(0) }
}

func (p *pcapFile) epb(id uint32, ticks uint64, capLen, origLen uint32, data string) *pcapFile {
	return p.block(blockEnhanced, func(b *pcapFile) {
		b.u32(id).u32(uint32(ticks >> 32)).u32(uint32(ticks)).u32(capLen).u32(origLen).raw(data)
	})
}

// write puts the file into a temporary folder and returns its path.
func (p *pcapFile) write(tb testing.TB) string {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "in.cap")
	if err := os.WriteFile(path, p.b, 0o600); err != nil {
		tb.Fatal(err)
	}
	return path
}

// readAll reads a capture from memory.
func readAll(data string) (packets []Packet, err error) {
	r, err := NewReader(strings.NewReader(data), "mem")
	if err != nil {
		return nil, err
	}
	for {
		p, err := r.Next()
		if errors.Is(err, io.EOF) {
			return packets, nil
		}
		if err != nil {
			return packets, err
		}
		packets = append(packets, p)
	}
}
