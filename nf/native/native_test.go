package native

import (
	"errors"
	"testing"

	"sfc/dataplane/packet"
	"sfc/nf"
)

func TestNewErrors(t *testing.T) {
	if _, err := New("nat64", nil, nil); !errors.Is(err, ErrUnknown) {
		t.Errorf("unknown function: %v", err)
	}
	for _, config := range []string{``, `[]`, `{`, `{"decrement":1}`, `{"decrement":true,"decrement":true}`, `{} {}`} {
		if _, err := New("hop", []byte(config), nil); !errors.Is(err, ErrConfig) {
			t.Errorf("%s: %v", config, err)
		}
	}
}

// Every function decides about every packet, whatever the descriptor says.
func TestEveryPacketGetsAVerdict(t *testing.T) {
	configs := map[string]string{"acl": `{"default":"deny"}`, "dnsguard": `{}`, "firewall": `{}`, "flowstat": `{}`, "hop": `{}`, "lb4": `{"services":[{"vip":"10.0.0.1","backends":[]}]}`, "nat44": `{"inside":["10.0.0.0/8"],"pool":["192.0.2.1"]}`, "ratelimit": `{"rate":1}`}
	frames := make([]byte, packet.ChunkSize)
	for _, name := range Names() {
		f, err := New(name, []byte(configs[name]), frames)
		if err != nil {
			t.Fatal(err)
		}
		for l3 := range 300 {
			for _, flags := range []uint16{0, packet.FlagIPv4, packet.FlagIPv6, packet.FlagIPv4 | packet.FlagIPv6} {
				descs := []packet.Desc{{
					Chunk: nf.FramesStart, Off: packet.Headroom, Len: 40, L3: uint16(l3 * 7), L4: uint16(l3 * 11),
					Proto: packet.ProtoUDP, Flags: flags,
				}}
				if f.Process(descs); descs[0].Verdict != packet.Next && descs[0].Verdict != packet.Drop {
					t.Fatalf("%s: %+v", name, descs[0])
				}
			}
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
}
