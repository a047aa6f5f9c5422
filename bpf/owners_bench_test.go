package bpf

import (
	"fmt"
	"testing"

	"sfc/dataplane/steer"
)

// BenchmarkSteerOwners is the program's cost per frame by workers and pins:
// nobody to look for, pins that are not asked (no functions that pin), asked in
// vain, and found.
func BenchmarkSteerOwners(b *testing.B) {
	needKernel(b)
	for _, workers := range []int{1, 2} {
		for _, mode := range []string{"none", "miss", "hit"} {
			s, _ := shared(b, workers, mode != "none")
			if mode != "none" {
				pins, err := steer.NewPins(s.PinMemory())
				if err != nil {
					b.Fatal(err)
				}
				hash, own := flowOf(b, s, dns4)
				if mode == "miss" {
					hash++
				}
				pins.Insert(steer.PinKey(hash, 0), steer.PinValue(0, 0, own^1))
			}
			b.Run(fmt.Sprintf("workers=%d/pins=%s", workers, mode), func(b *testing.B) {
				best := 0.0
				for i := 0; b.Loop(); i++ {
					action, ns := runMany(b, s.ports[0].prog, dns4)
					if action != xdpRedirect {
						b.Fatalf("action %d", action)
					}
					if i == 0 || ns < best {
						best = ns
					}
				}
				b.ReportMetric(best, "ns/pkt")
			})
		}
	}
}
