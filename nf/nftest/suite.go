package nftest

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"sfc/dataplane/packet"
)

// Case is a table case: packets through a function with a configuration.
type Case struct {
	Name    string
	Config  string
	Packets []Packet
	// Apart says that every packet is a burst of its own: what a function binds
	// to a flow holds from the next burst on.
	Apart bool
	// Room, when not zero, is what the function may give its flows.
	Room Room
	// Want holds one verdict per packet.
	Want []Want
	// End are flows that end after the packets.
	End []uint32
	// Records, when not nil, are what the function has exported then.
	Records []string
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
			if l, ok := r.(Limiter); ok {
				l.Limit(tc.Room)
			}
			err := r.Configure([]byte(tc.Config))
			if (err != nil) != tc.Refused {
				t.Fatalf("configure %s: error %v, want refused %v", tc.Config, err, tc.Refused)
			}
			if tc.Refused {
				return
			}
			got := process(r, tc)
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
			r.FlowEnd(tc.End)
			if c, ok := r.(Counter); ok && tc.Counters != nil {
				if got := c.Counters()[:len(tc.Counters)]; !slices.Equal(got, tc.Counters) {
					t.Errorf("counters %v, want %v", got, tc.Counters)
				}
			}
			if c, ok := r.(Recorder); ok && tc.Records != nil {
				if got := c.Records(); !slices.Equal(got, tc.Records) {
					t.Errorf("records\n%s, want\n%s", strings.Join(got, "\n"), strings.Join(tc.Records, "\n"))
				}
			}
		})
	}
}

// process runs a case's packets.
func process(r Runner, tc Case) []Result {
	if !tc.Apart {
		return r.Process(tc.Packets)
	}
	var out []Result
	for i := range tc.Packets {
		out = append(out, r.Process(tc.Packets[i:i+1])...)
	}
	return out
}

// Compare runs the packets on every runner and checks that all agree with the
// first: on refusing the configuration, else on every result, record and counter.
// Halfway every other flow ends, afterwards they all do. Runners that can show
// what they keep of the flows must keep the same. It returns what the first decided, nil when the configuration was refused.
func Compare(tb testing.TB, config []byte, packets []Packet, runners ...Runner) []Result {
	tb.Helper()
	var want []Result
	var wantErr error
	var counters []uint64
	var kept []byte
	var exported []string
	all, odd := flowsOf(packets)
	for i, r := range runners {
		err := r.Configure(config)
		var got []Result
		var count []uint64
		var records []string
		if err == nil {
			half := len(packets) / 2
			got = r.Process(packets[:half])
			r.FlowEnd(odd)
			got = append(got, r.Process(packets[half:])...)
			if k, ok := r.(Keeper); ok {
				state := k.FlowState(int(slices.Max(append(all, 0))))
				if kept != nil && !bytes.Equal(kept, state) {
					tb.Fatalf("%T keeps something else of the flows:\n%x, not\n%x", r, state, kept)
				}
				kept = bytes.Clone(state)
			}
			r.FlowEnd(all)
			if c, ok := r.(Counter); ok {
				count = c.Counters()
			}
			if c, ok := r.(Recorder); ok {
				records = c.Records()
			}
		}
		if i == 0 {
			want, wantErr, counters, exported = got, err, slices.Clone(count), records
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
		if !slices.Equal(records, exported) {
			tb.Fatalf("records: %T\n%s\n%T\n%s\nconfig %.2000s", runners[0], strings.Join(exported, "\n"), r, strings.Join(records, "\n"), config)
		}
		if count != nil && counters != nil && !slices.Equal(counters, count) {
			tb.Fatalf("counters: %T %v and %T %v\nconfig %.2000s", runners[0], counters[:24], r, count[:24], config)
		}
	}
	return want
}

// flowsOf returns the flows of the packets, and every other of them.
func flowsOf(packets []Packet) (all, odd []uint32) {
	for _, p := range packets {
		if p.Flow != 0 {
			all = append(all, p.Flow)
		}
	}
	slices.Sort(all)
	all = slices.Compact(all)
	for i := 1; i < len(all); i += 2 {
		odd = append(odd, all[i])
	}
	return all, odd
}
