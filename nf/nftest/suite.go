package nftest

import (
	"slices"
	"testing"

	"sfc/dataplane/packet"
)

// Case is a table case: packets through a function with a configuration.
type Case struct {
	Name    string
	Config  string
	Packets []Packet
	// Want holds one verdict per packet.
	Want []Want
	// Counters, when not nil, are the first counters afterwards.
	Counters []uint64
	// Refused says that the configuration is refused; nothing else is tested.
	Refused bool
}

// Want is what a function must decide.
type Want struct {
	Verdict packet.Verdict
	Reason  uint16
	// Frame, when not nil, is the frame afterwards.
	Frame []byte
}

// Next hands the packet on.
var Next = Want{Verdict: packet.Next}

// Drop is a drop for a reason of the manifest, counted from 1.
func Drop(reason uint16) Want { return Want{Verdict: packet.Drop, Reason: reason} }

// Run runs the cases on a runner and checks verdicts, frames and counters.
func Run(t *testing.T, r Runner, cases []Case) {
	for _, tc := range cases {
		t.Run(tc.Name, func(t *testing.T) {
			err := r.Configure([]byte(tc.Config))
			if (err != nil) != tc.Refused {
				t.Fatalf("configure %s: error %v, want refused %v", tc.Config, err, tc.Refused)
			}
			if tc.Refused {
				return
			}
			got := r.Process(tc.Packets)
			if len(got) != len(tc.Want) {
				t.Fatalf("%d results for %d wanted", len(got), len(tc.Want))
			}
			for i, want := range tc.Want {
				if got[i].Verdict != want.Verdict || got[i].Reason != want.Reason {
					t.Errorf("packet %d: %v(%d), want %v(%d)", i, got[i].Verdict, got[i].Reason, want.Verdict, want.Reason)
				}
				if want.Frame != nil && !slices.Equal(got[i].Frame, want.Frame) {
					t.Errorf("packet %d: frame\n%x, want\n%x", i, got[i].Frame, want.Frame)
				}
			}
			if c, ok := r.(Counter); ok && tc.Counters != nil {
				if got := c.Counters()[:len(tc.Counters)]; !slices.Equal(got, tc.Counters) {
					t.Errorf("counters %v, want %v", got, tc.Counters)
				}
			}
		})
	}
}

// Compare runs the packets on every runner and checks that all agree with the
// first: on refusing the configuration, else on every result and counter. It
// returns what the first decided, nil when the configuration was refused.
func Compare(tb testing.TB, config []byte, packets []Packet, runners ...Runner) []Result {
	tb.Helper()
	var want []Result
	var wantErr error
	var counters []uint64
	for i, r := range runners {
		err := r.Configure(config)
		var got []Result
		var count []uint64
		if err == nil {
			got = r.Process(packets)
			if c, ok := r.(Counter); ok {
				count = c.Counters()
			}
		}
		if i == 0 {
			want, wantErr, counters = got, err, slices.Clone(count)
			continue
		}
		if (err == nil) != (wantErr == nil) {
			tb.Fatalf("%T: error %v; %T: error %v\nconfig %.2000q", runners[0], wantErr, r, err, config)
		}
		for k := range want {
			if diff := want[k].Diff(got[k]); diff != "" {
				tb.Fatalf("packet %d: %T and %T: %s\npacket %+v\nconfig %.2000s", k, runners[0], r, diff, packets[k], config)
			}
		}
		if count != nil && counters != nil && !slices.Equal(counters, count) {
			tb.Fatalf("counters: %T %v and %T %v", runners[0], counters[:8], r, count[:8])
		}
	}
	return want
}
