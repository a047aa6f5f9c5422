package capture

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// optComment is the option for a comment on any block, optName the name of an
// interface.
const (
	optComment = 1
	optName    = 2
)

// Writer writes a pcapng capture: one little-endian section, Ethernet
// interfaces with ns resolution, one enhanced packet block per packet. Equal
// packets give equal bytes: the file holds no dates, names or versions of the
// machine that wrote it. It is not safe for concurrent use.
type Writer struct {
	w     *bufio.Writer
	links int          // interfaces
	close func() error // closes what Create opened, else nil
	block []byte       // the block being put together
	err   error        // what Write or NewWriter returned; Close does not say it again
}

// NewWriter writes the capture's header to w. Interfaces are named as given;
// none stands for one without a name. The caller calls Close, which does not
// close w.
func NewWriter(w io.Writer, interfaces ...string) (*Writer, error) {
	if len(interfaces) == 0 {
		interfaces = []string{""}
	}
	cw := &Writer{w: bufio.NewWriterSize(w, 1<<16), links: len(interfaces)}

	cw.start(blockSection)
	cw.u32(byteOrderMagic)
	cw.u16(1) // version 1.0
	cw.u16(0)
	cw.u32(0xffffffff) // section length: not given
	cw.u32(0xffffffff)
	if err := cw.end(); err != nil {
		return nil, err
	}

	for _, name := range interfaces {
		cw.start(blockInterface)
		cw.u16(linkTypeEthernet)
		cw.u16(0)
		cw.u32(MaxPacket)
		if name != "" {
			cw.option(optName, name)
		}
		cw.option(optTSResol, "\x09")
		cw.option(optEnd, "")
		if err := cw.end(); err != nil {
			return nil, err
		}
	}
	return cw, nil
}

// Create makes or truncates the file at path and writes a capture's header to
// it. Close closes the file. Interfaces are as for [NewWriter].
func Create(path string, interfaces ...string) (*Writer, error) {
	// Not os.Create: who opens a pipe for reading too waits forever for itself
	// when the reader has gone.
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o666)
	if err != nil {
		return nil, fmt.Errorf("create capture: %w", err)
	}
	w, err := NewWriter(f, interfaces...)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("write capture %s: %w", path, err), f.Close())
	}
	w.close = f.Close
	return w, nil
}

// Write is [Writer.WriteOn] for the first interface.
func (w *Writer) Write(timeNs int64, data []byte, origLen int, comment string) error {
	return w.WriteOn(0, timeNs, data, origLen, comment)
}

// WriteOn adds a packet that was seen on an interface, by its index, at timeNs
// (ns since 1970) and was origLen bytes long on the wire, of which data is the
// beginning. A comment, if not empty, is shown by Wireshark beside the packet;
// of a comment longer than the format allows (65,535 bytes) the beginning is
// kept; bytes that are not UTF-8 become question marks.
func (w *Writer) WriteOn(link int, timeNs int64, data []byte, origLen int, comment string) error {
	switch {
	case link < 0 || link >= w.links:
		return fmt.Errorf("write packet: interface %d, the capture has %d", link, w.links)
	case timeNs < 0:
		return fmt.Errorf("write packet: time %d ns is before 1970", timeNs)
	case len(data) > MaxPacket:
		return fmt.Errorf("write packet: %d bytes are above %d", len(data), MaxPacket)
	case origLen < len(data) || origLen > 1<<31-1:
		return fmt.Errorf("write packet: original length %d is not between %d and 2^31-1", origLen, len(data))
	}
	w.start(blockEnhanced)
	w.u32(uint32(link))
	w.u32(uint32(timeNs >> 32))
	w.u32(uint32(timeNs))
	w.u32(uint32(len(data)))
	w.u32(uint32(origLen))
	w.block = append(w.block, data...)
	w.pad()
	if comment != "" {
		w.option(optComment, strings.ToValidUTF8(comment, "?"))
		w.option(optEnd, "")
	}
	return w.end()
}

// Flush writes out what is buffered, for those who read while packets come.
func (w *Writer) Flush() error {
	if w.err == nil {
		w.err = w.w.Flush()
	}
	return w.err
}

// Close writes out what is buffered. What has failed already fails no second
// time.
func (w *Writer) Close() error {
	var err error
	if w.err == nil {
		if err = w.w.Flush(); err != nil {
			err = fmt.Errorf("write capture: %w", err)
		}
	}
	if w.close != nil {
		err = errors.Join(err, w.close())
		w.close = nil
	}
	return err
}

// start begins a block: its type and room for its length.
func (w *Writer) start(typ uint32) {
	w.block = w.block[:0]
	w.u32(typ)
	w.u32(0)
}

// end writes the block with its length in front and behind.
func (w *Writer) end() error {
	n := uint32(len(w.block) + 4)
	binary.LittleEndian.PutUint32(w.block[4:], n)
	w.u32(n)
	if _, err := w.w.Write(w.block); err != nil {
		w.err = fmt.Errorf("write capture: %w", err)
	}
	return w.err
}

func (w *Writer) option(code uint16, value string) {
	const longest = 0xffff
	if len(value) > longest {
		value = strings.ToValidUTF8(value[:longest], "")
	}
	w.u16(code)
	w.u16(uint16(len(value)))
	w.block = append(w.block, value...)
	w.pad()
}

func (w *Writer) pad() {
	for len(w.block)%4 != 0 {
		w.block = append(w.block, 0)
	}
}

func (w *Writer) u16(v uint16) { w.block = binary.LittleEndian.AppendUint16(w.block, v) }
func (w *Writer) u32(v uint32) { w.block = binary.LittleEndian.AppendUint32(w.block, v) }
