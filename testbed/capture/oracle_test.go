package capture

import (
	"bytes"
	"errors"
	"io"
	"os"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/pcapgo"

	"sfc/testbed/gate"
)

// TestSameAsPcapgo reads captures of real traffic with this package and with
// gopacket's readers, which were written by others.
func TestSameAsPcapgo(t *testing.T) {
	for _, path := range gate.Pcaps(t) {
		t.Run(path, func(t *testing.T) {
			raw, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			got, err := ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			src := pcapgoSource(t, raw)
			for i := 0; ; i++ {
				data, ci, err := src.ReadPacketData()
				if errors.Is(err, io.EOF) {
					if i != len(got) || i == 0 {
						t.Errorf("%d packets, pcapgo reads %d", len(got), i)
					}
					return
				}
				if err != nil {
					t.Fatalf("pcapgo: packet %d: %v", i, err)
				}
				p := got[i]
				if !bytes.Equal(p.Data, data) || p.OrigLen != ci.Length || p.TimeNs != ci.Timestamp.UnixNano() {
					t.Fatalf("packet %d: %d of %d bytes at %d; pcapgo reads %d of %d at %d",
						i, len(p.Data), p.OrigLen, p.TimeNs, len(data), ci.Length, ci.Timestamp.UnixNano())
				}
			}
		})
	}
}

func pcapgoSource(t *testing.T, raw []byte) gopacket.PacketDataSource {
	t.Helper()
	if ng, err := pcapgo.NewNgReader(bytes.NewReader(raw), pcapgo.DefaultNgReaderOptions); err == nil {
		return ng
	}
	r, err := pcapgo.NewReader(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	r.SetSnaplen(MaxPacket)
	return r
}

// TestEveryCut cuts a capture at every byte: the packets in front of the cut
// are whole, and the cut is reported unless it falls between two records.
func TestEveryCut(t *testing.T) {
	files := map[string]*pcapFile{
		"pcap":   newPcap(le, magicMicro, 1).record(1, 0, 5, 5, "hello").record(2, 0, 3, 9, "you"),
		"pcapng": (&pcapFile{order: be}).section().ifc(1, 0, resolution(9)).epb(0, 1, 5, 5, "hello").epb(0, 2, 3, 9, "you"),
	}
	for name, f := range files {
		whole, err := readAll(string(f.b))
		if err != nil || len(whole) != 2 {
			t.Fatalf("%s: %d packets, %v", name, len(whole), err)
		}
		clean := 0
		for n := range f.b {
			got, err := readAll(string(f.b[:n]))
			var cut *TruncatedError
			switch {
			case err == nil:
				clean++
			case errors.As(err, &cut):
				if cut.Packets != len(got) || cut.Missing < 1 || cut.Offset+cut.Missing > int64(len(f.b)) {
					t.Errorf("%s cut at %d: %+v with %d packets", name, n, *cut, len(got))
				}
			case n >= 4 || !errors.Is(err, ErrNotCapture):
				t.Errorf("%s cut at %d: %v", name, n, err)
			}
			for i := range got {
				if !bytes.Equal(got[i].Data, whole[i].Data) {
					t.Errorf("%s cut at %d: packet %d is %q", name, n, i, got[i].Data)
				}
			}
		}
		if want := map[string]int{"pcap": 2, "pcapng": 3}[name]; clean != want {
			t.Errorf("%s: %d cuts fall between records, want %d", name, clean, want)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add(newPcap(le, magicMicro, 1).record(1, 0, 2, 2, "ab").b)
	f.Add(newPcap(be, magicNano, 1).record(1, 0, 2, 2, "ab").b)
	f.Add((&pcapFile{order: le}).section().ifc(1, 0, resolution(9)).epb(0, 1, 5, 5, "hello").b)
	f.Add((&pcapFile{order: be}).section().ifc(1, 9, resolution(0x94)).block(blockSimple, func(b *pcapFile) { b.u32(3).raw("abc") }).b)
	f.Fuzz(func(t *testing.T, in []byte) {
		packets, err := readAll(string(in))
		bytesRead := 0
		for i, p := range packets {
			if p.TimeNs < 0 || len(p.Data) > p.OrigLen || len(p.Data) > MaxPacket {
				t.Errorf("packet %d: %d of %d bytes at %d", i, len(p.Data), p.OrigLen, p.TimeNs)
			}
			bytesRead += len(p.Data)
		}
		if bytesRead > len(in) {
			t.Errorf("%d bytes of packets out of %d", bytesRead, len(in))
		}
		if err != nil && err.Error() == "" {
			t.Error("error without text")
		}

		// What was read can be written and read again.
		var out bytes.Buffer
		w, werr := NewWriter(&out)
		if werr != nil {
			t.Fatal(werr)
		}
		for _, p := range packets {
			if p.OrigLen > 1<<31-1 {
				return
			}
			if err := w.Write(p.TimeNs, p.Data, p.OrigLen, "a comment"); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		again, err := readAll(out.String())
		if err != nil || len(again) != len(packets) {
			t.Fatalf("read again: %d packets of %d, %v", len(again), len(packets), err)
		}
		for i := range again {
			if again[i].TimeNs != packets[i].TimeNs || again[i].OrigLen != packets[i].OrigLen || !bytes.Equal(again[i].Data, packets[i].Data) {
				t.Errorf("packet %d is %+v, was %+v", i, again[i], packets[i])
			}
		}
	})
}
