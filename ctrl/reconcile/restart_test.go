package reconcile

import (
	"fmt"
	"testing"
	"time"

	"sfc/ctrl/api"
)

// The data plane dies, cold or with what it kept, is away, or fails in the middle:
// in the end it runs what it should.
func TestPlaneRestarts(t *testing.T) {
	g := newRig(t, nil)
	g.tenant("acme", api.TenantSpec{})
	d := g.deploy("acme", "1.0.0", "1.1.0")
	g.chain("acme", "edge", nil, "flowstat@1.0.0")
	g.plane.down = errDown // not there yet when control starts
	g.start()
	g.awaitCondition("acme", "edge", api.Ready, "False/"+reasonDown)
	g.plane.set(func() { g.plane.down = nil })
	g.awaitRuns("acme", "edge", short(d[0]))
	g.awaitCondition("acme", "edge", api.Ready, "True/Active")
	for _, cold := range []bool{true, false} {
		g.plane.restart(cold)
		g.awaitRuns("acme", "edge", short(d[0]))
		g.await(func() string {
			g.plane.mu.Lock()
			defer g.plane.mu.Unlock()
			if g.plane.revision == 0 {
				return "everything is applied again"
			}
			return ""
		})
	}
	g.plane.set(func() { g.plane.down = errDown })
	g.awaitCondition("acme", "edge", api.Ready, "False/"+reasonDown)
	g.chain("acme", "edge", nil, "flowstat@1.1.0")
	g.plane.set(func() { g.plane.down = nil })
	g.awaitRuns("acme", "edge", short(d[1]))
	fails := 5
	g.plane.set(func() {
		g.plane.stutter = func() error {
			if fails--; fails >= 0 {
				return errDown
			}
			return nil
		}
	})
	g.chain("acme", "more", nil, "flowstat@1.0.0")
	g.awaitCondition("acme", "more", api.Ready, "True/Active")
	g.awaitCondition("acme", "edge", api.Ready, "True/Active")
	// Something is taken away behind control's back.
	g.plane.set(func() { delete(g.plane.chains, "acme/edge") })
	g.awaitRuns("acme", "edge", short(d[1]))
}

// A control process that starts again changes nothing: it compiles nothing, hands
// over nothing and writes nothing.
func TestControlRestartIsNoChange(t *testing.T) {
	g := newRig(t, nil)
	g.tenant("acme", api.TenantSpec{})
	g.deploy("acme", "1.0.0")
	for i := range 20 {
		g.chain("acme", fmt.Sprint("c", i), nil, "flowstat@1.0.0")
	}
	g.start()
	for i := range 20 {
		g.awaitCondition("acme", fmt.Sprint("c", i), api.Ready, "True/Active")
	}
	g.await(func() string {
		if f, _ := status[api.FunctionStatus](g, "acme", api.BucketFunctions, "flowstat/1.0.0"); !f.Conditions.IsTrue(api.Ready) {
			return "the version is ready"
		}
		return ""
	})
	g.r.writer.flush()
	g.stop()
	before := g.bucket("acme", api.BucketStatus).Revision() + g.bucket("acme", BucketApplied).Revision() + g.bucket("", api.BucketStatus).Revision()
	g.plane.mu.Lock()
	applied, chains := g.plane.applied, fmt.Sprint(g.plane.chains)
	clear(g.plane.handed)
	g.plane.mu.Unlock()
	clear(g.compiler.built)
	g.start()
	g.await(func() string {
		g.plane.mu.Lock()
		defer g.plane.mu.Unlock()
		if g.plane.applied == applied {
			return "it is applied once"
		}
		return ""
	})
	time.Sleep(300 * time.Millisecond) // several looks
	g.stop()
	if after := g.bucket("acme", api.BucketStatus).Revision() + g.bucket("acme", BucketApplied).Revision() + g.bucket("", api.BucketStatus).Revision(); after != before {
		t.Errorf("%d statuses were written", after-before)
	}
	g.plane.mu.Lock()
	defer g.plane.mu.Unlock()
	if fmt.Sprint(g.plane.chains) != chains || len(g.plane.handed) > 0 || len(g.compiler.built) > 0 || g.plane.applied > applied+1 {
		t.Errorf("handed over %v, compiled %v, applied %d times", g.plane.handed, g.compiler.built, g.plane.applied-applied)
	}
}
