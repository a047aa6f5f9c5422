package reconcile

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"sfc/ctrl/api"
	"sfc/ctrl/functions"
	"sfc/ctrl/functions/sign"
	"sfc/ctrl/plane"
	"sfc/ctrl/store"
)

func TestChainComesAndGoes(t *testing.T) {
	g := newRig(t, nil)
	g.tenant("acme", api.TenantSpec{Share: 250, Flows: 200_000})
	d := g.deploy("acme", "1.0.0")
	g.start()
	g.chain("acme", "edge", nil, "flowstat@1.0.0")
	g.awaitCondition("acme", "edge", api.Ready, "True/Active")
	g.awaitRuns("acme", "edge", short(d[0]))
	for typ, want := range map[string]string{
		condResolved: "True/Resolved", condModules: "True/Compiled", condProgrammed: "True/Active",
		api.Degraded: "False/AsDesired", api.Progressing: "False/Done",
	} {
		g.awaitCondition("acme", "edge", typ, want)
	}
	s, _ := status[api.ChainStatus](g, "acme", api.BucketChains, "edge")
	if !s.Active || s.ObservedGeneration != 1 || len(s.Functions) != 1 || s.Functions[0].Digest != "sha256:"+d[0] {
		t.Errorf("status %+v", s)
	}
	if p, ok := status[api.PortStatus](g, "", api.BucketPorts, "in"); !ok || !p.Up || !p.Conditions.IsTrue(api.Ready) {
		t.Errorf("port %+v", p)
	}
	g.plane.mu.Lock()
	if want := (plane.Tenant{Name: "acme", Share: 250, Flows: 200_000, Rules: 1024, LogLines: api.DefaultTenantLogLines}); len(g.plane.tenants) != 1 || g.plane.tenants[0] != want {
		t.Errorf("tenants %+v", g.plane.tenants)
	}
	g.plane.mu.Unlock()

	g.chain("acme", "edge", func(s *api.ChainSpec) { s.Drain = true }, "flowstat@1.0.0")
	g.await(func() string {
		if c, _ := g.runs("acme", "edge"); !c.Drain || c.Generation != 2 {
			return "a drain of generation 2"
		}
		return ""
	})
	g.remove("acme", api.BucketChains, "edge")
	g.awaitRuns("acme", "edge", "nothing")
	g.await(func() string {
		for _, b := range []string{api.BucketStatus, BucketApplied} {
			if p := must[store.Page](t)(g.bucket("acme", b).List("chains/", 0, "")); len(p.Entries) > 0 {
				return "nothing in " + b
			}
		}
		return ""
	})
}

// An alias that moves takes the chains along, and the generation stays.
func TestAliasesMoveChains(t *testing.T) {
	g := newRig(t, nil)
	g.tenant("acme", api.TenantSpec{})
	d := g.deploy("acme", "1.0.0", "1.1.0")
	g.alias("acme", "prod=1.0.0")
	g.chain("acme", "edge", nil, "flowstat@prod")
	g.start()
	g.awaitRuns("acme", "edge", short(d[0]))
	g.alias("acme", "prod=1.1.0@10%")
	g.awaitRuns("acme", "edge", short(d[0])+"+10% "+short(d[1]))
	g.await(func() string {
		s, _ := status[api.ChainStatus](g, "acme", api.BucketChains, "edge")
		if len(s.Functions) != 1 || s.Functions[0].CanaryDigest != "sha256:"+d[1] || s.ObservedGeneration != 1 {
			return fmt.Sprintf("a canary in %+v", s)
		}
		return ""
	})
	lib := g.library("acme")
	must[*api.Alias](t)(lib.Promote(t.Context(), "flowstat", "prod", "", "me"))
	g.awaitRuns("acme", "edge", short(d[1]))
	must[*api.Alias](t)(lib.Rollback(t.Context(), "flowstat", "prod", "", "me"))
	g.awaitRuns("acme", "edge", short(d[0]))
	g.awaitCondition("acme", "edge", api.Ready, "True/Active")
	g.await(func() string {
		f, _ := status[api.FunctionStatus](g, "acme", api.BucketFunctions, "flowstat/1.0.0")
		a, _ := status[api.AliasStatus](g, "acme", api.BucketAliases, "flowstat/prod")
		if !slices.Equal(f.Aliases, []string{"prod"}) || !f.Conditions.IsTrue(api.Ready) || len(a.History) != 4 || a.Digest != "sha256:"+d[0] {
			return fmt.Sprintf("prod stands for 1.0.0 in %+v, %+v", f, a)
		}
		return ""
	})
	if used, ok := g.r.InUse("acme"); !ok || !slices.Contains(used, d[0]) {
		t.Errorf("in use: %v, %v", used, ok)
	}
}

// Whatever is wrong with what is wanted: what ran last goes on, the condition
// says why, and it goes on even when control and data plane both start anew.
func TestLastGoodStays(t *testing.T) {
	_, priv, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		spoil        func(*rig, []string)
		typ, want    string
		heal         func(*rig, []string)
		healed       int // index of the version that runs then
		alsoRestarts bool
	}{
		"alias gone": {
			spoil: func(g *rig, _ []string) { g.remove("acme", api.BucketAliases, "flowstat/prod") },
			typ:   condResolved, want: "False/FunctionNotFound",
			heal: func(g *rig, _ []string) { g.alias("acme", "prod=1.1.0") }, healed: 1, alsoRestarts: true,
		},
		"bad reference": {
			spoil: func(g *rig, _ []string) { g.chain("acme", "edge", nil, "flowstat") },
			typ:   condResolved, want: "False/InvalidReference",
			heal: func(g *rig, _ []string) { g.chain("acme", "edge", nil, "flowstat@1.1.0") }, healed: 1, alsoRestarts: true,
		},
		"does not compile": {
			spoil: func(g *rig, d []string) { g.alias("acme", "prod=1.2.0") },
			typ:   condModules, want: "False/CompileFailed",
			heal: func(g *rig, d []string) {
				g.compiler.mu.Lock()
				delete(g.compiler.broken, d[2])
				g.compiler.mu.Unlock()
			}, healed: 2,
		},
		"data plane refuses the code": {
			spoil: func(g *rig, d []string) {
				g.plane.set(func() { g.plane.badCode[d[1]] = true })
				g.alias("acme", "prod=1.1.0")
			},
			typ: condModules, want: "False/CompileFailed",
			heal: func(g *rig, d []string) { g.plane.set(func() { clear(g.plane.badCode) }) }, healed: 1,
		},
		"data plane refuses the chain": {
			spoil: func(g *rig, d []string) {
				g.plane.set(func() {
					g.plane.refuse = func(c *plane.Chain) string {
						return map[bool]string{true: "FunctionFailed"}[c.Code["flowstat@prod"] == d[1]]
					}
				})
				g.alias("acme", "prod=1.1.0")
			},
			typ: api.Ready, want: "False/FunctionFailed",
			heal: func(g *rig, _ []string) { g.plane.set(func() { g.plane.refuse = nil }) }, healed: 1,
		},
		"over the quota of flows": {
			spoil: func(g *rig, _ []string) {
				g.chain("acme", "edge", func(s *api.ChainSpec) { s.Flows = 500_000 }, "flowstat@prod")
			},
			typ: api.Ready, want: "False/QuotaExceeded",
			heal: func(g *rig, _ []string) { g.tenant("acme", api.TenantSpec{Flows: 600_000}) }, healed: 0, alsoRestarts: true,
		},
		"port gone": {
			spoil: func(g *rig, _ []string) {
				g.chain("acme", "edge", func(s *api.ChainSpec) { s.Egress = "up" }, "flowstat@prod")
			},
			typ: condResolved, want: "False/PortNotFound",
			heal: func(g *rig, _ []string) { g.port("up") }, healed: 0, alsoRestarts: true,
		},
		"port of somebody else": {
			spoil: func(g *rig, _ []string) {
				g.port("up", "other")
				g.chain("acme", "edge", func(s *api.ChainSpec) { s.Egress = "up" }, "flowstat@prod")
			},
			typ: condResolved, want: "False/PortNotFound",
			heal: func(g *rig, _ []string) { g.port("up", "other", "acme") }, healed: 0,
		},
		"signatures are required": {
			spoil: func(g *rig, _ []string) { g.tenant("acme", api.TenantSpec{Flows: 100_000, RequireSigned: true}) },
			typ:   condResolved, want: "False/SignatureRequired",
			heal: func(g *rig, _ []string) {
				lib := g.library("acme")
				must[*api.Key](g.tb)(lib.AddKey(t.Context(), "ci", priv.Public().(ed25519.PublicKey)))
				wasm := flowstat(g.tb, "1.0.0")
				sig := must[sign.Signature](g.tb)(sign.Sign(priv, must[sign.Subject](g.tb)(sign.SubjectOf(wasm))))
				_, _, err := lib.Put(t.Context(), functions.Upload{Module: strings.NewReader(string(wasm)), Signature: &sig}, functions.Policy{RequireSigned: true})
				if err != nil {
					g.tb.Fatal(err)
				}
			}, healed: 0, alsoRestarts: true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := newRig(t, nil)
			g.tenant("acme", api.TenantSpec{Flows: 100_000})
			d := g.deploy("acme", "1.0.0", "1.1.0", "1.2.0")
			g.compiler.broken[d[2]] = true
			g.alias("acme", "prod=1.0.0")
			g.chain("acme", "edge", nil, "flowstat@prod")
			g.start()
			g.awaitCondition("acme", "edge", api.Ready, "True/Active")
			tt.spoil(g, d)
			g.awaitCondition("acme", "edge", tt.typ, tt.want)
			g.awaitCondition("acme", "edge", api.Degraded, "True/"+strings.TrimPrefix(strings.TrimPrefix(tt.want, "False/"), "True/"))
			g.awaitRuns("acme", "edge", short(d[0]))
			if tt.alsoRestarts {
				g.stop()
				g.plane.restart(true)
				g.start()
				g.awaitRuns("acme", "edge", short(d[0]))
				g.awaitCondition("acme", "edge", tt.typ, tt.want)
			}
			tt.heal(g, d)
			g.awaitRuns("acme", "edge", short(d[tt.healed]))
			g.awaitCondition("acme", "edge", api.Ready, "True/Active")
		})
	}
}

// A key that is revoked stops nothing that runs, and says so.
func TestRevokedKey(t *testing.T) {
	pub, priv, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	g := newRig(t, nil)
	g.tenant("acme", api.TenantSpec{RequireSigned: true})
	lib := g.library("acme")
	must[*api.Key](t)(lib.AddKey(t.Context(), "ci", pub))
	wasm := flowstat(t, "1.0.0")
	sig := must[sign.Signature](t)(sign.Sign(priv, must[sign.Subject](t)(sign.SubjectOf(wasm))))
	f, _, err := lib.Put(t.Context(), functions.Upload{Module: strings.NewReader(string(wasm)), Signature: &sig}, functions.Policy{RequireSigned: true})
	if err != nil {
		t.Fatal(err)
	}
	unsigned := g.deploy("acme", "2.0.0")[0] // before signatures were required
	g.chain("acme", "edge", nil, "flowstat@1.0.0")
	g.chain("acme", "bad", nil, "flowstat@2.0.0")
	g.start()
	g.awaitCondition("acme", "edge", api.Ready, "True/Active")
	g.awaitCondition("acme", "bad", condResolved, "False/SignatureRequired")
	if err := lib.RevokeKey(t.Context(), "ci", ""); err != nil {
		t.Fatal(err)
	}
	g.awaitCondition("acme", "edge", condResolved, "False/SignatureRequired")
	g.awaitRuns("acme", "edge", short(trim(f.Spec.Digest)))
	g.awaitRuns("acme", "bad", "nothing")
	// What nobody vouches for was not even compiled.
	g.compiler.mu.Lock()
	defer g.compiler.mu.Unlock()
	if g.compiler.built[unsigned] > 0 {
		t.Error("an unsigned module was compiled")
	}
}

// Where there is no room the oldest chains run, and others follow when some go.
func TestCapacity(t *testing.T) {
	g := newRig(t, func(o *Options) { o.RetryMax = time.Hour })
	g.plane.room = 3
	g.tenant("acme", api.TenantSpec{})
	g.deploy("acme", "1.0.0")
	for i := range 5 {
		g.chain("acme", fmt.Sprint("c", i), nil, "flowstat@1.0.0")
	}
	g.start()
	for i := range 5 {
		g.awaitCondition("acme", fmt.Sprint("c", i), api.Ready, []string{"True/Active", "False/NoCapacity"}[i/3])
	}
	g.remove("acme", api.BucketChains, "c1")
	g.awaitCondition("acme", "c3", api.Ready, "True/Active")
	g.awaitCondition("acme", "c4", api.Ready, "False/NoCapacity")
}

// What concerns one tenant is told to no other.
func TestTenantsApart(t *testing.T) {
	g := newRig(t, nil)
	for _, name := range []string{"acme", "other"} {
		g.tenant(name, api.TenantSpec{})
	}
	d := g.deploy("acme", "1.0.0")
	g.chain("acme", "edge", nil, "flowstat@1.0.0")
	g.chain("other", "edge", nil, "flowstat@1.0.0")
	g.chain("other", "steal", nil, "sha256:"+d[0])
	g.start()
	g.awaitCondition("acme", "edge", api.Ready, "True/Active")
	g.awaitCondition("other", "edge", condResolved, "False/FunctionNotFound")
	g.awaitCondition("other", "steal", condResolved, "False/FunctionNotFound")
	g.awaitRuns("other", "steal", "nothing")
	page := must[store.Page](t)(g.bucket("other", api.BucketStatus).List("", 0, ""))
	for _, e := range page.Entries {
		if strings.Contains(string(e.Value), "acme") {
			t.Errorf("%s says %s", e.Key, e.Value)
		}
	}
	// A port that is not for all: nobody claims everything any more.
	g.port("private", "acme")
	g.chain("other", "all", func(s *api.ChainSpec) { s.Match = nil })
	g.awaitCondition("other", "all", condResolved, "False/PortForbidden")
	g.chain("acme", "all", func(s *api.ChainSpec) { s.Match = nil })
	g.awaitCondition("acme", "all", api.Ready, "True/Active")
	// A tenant that goes takes its chains along.
	g.remove("", api.BucketTenants, "acme")
	g.awaitRuns("acme", "edge", "nothing")
	if err := g.st.Remove(context.Background(), "acme"); err != nil {
		t.Error(err)
	}
	g.tenant("acme", api.TenantSpec{})
	g.deploy("acme", "1.0.0")
	g.chain("acme", "again", nil, "flowstat@1.0.0")
	g.awaitCondition("acme", "again", api.Ready, "True/Active")
}

// Times of transitions change with the status only; events tell of them.
func TestTransitions(t *testing.T) {
	g := newRig(t, nil)
	g.tenant("acme", api.TenantSpec{})
	g.deploy("acme", "1.0.0", "1.1.0")
	g.chain("acme", "edge", nil, "flowstat@1.0.0")
	g.start()
	g.awaitCondition("acme", "edge", api.Ready, "True/Active")
	first, _ := status[api.ChainStatus](g, "acme", api.BucketChains, "edge")
	g.chain("acme", "edge", nil, "flowstat@1.1.0")
	g.await(func() string {
		s, _ := status[api.ChainStatus](g, "acme", api.BucketChains, "edge")
		c := s.Conditions.Find(condResolved)
		if s.ObservedGeneration != 2 || c.ObservedGeneration != 2 {
			return "generation 2 is seen"
		}
		if !c.LastTransitionTime.Equal(first.Conditions.Find(condResolved).LastTransitionTime) {
			t.Error("a status that did not change has another time")
		}
		return ""
	})
	g.chain("acme", "edge", nil, "flowstat@9.0.0")
	g.awaitCondition("acme", "edge", api.Ready, "False/FunctionNotFound")
	s, _ := status[api.ChainStatus](g, "acme", api.BucketChains, "edge")
	if !s.Conditions.Find(api.Ready).LastTransitionTime.After(first.Conditions.Find(api.Ready).LastTransitionTime) {
		t.Error("a transition has no time of its own")
	}
	g.stop()
	var told []string
	for len(g.events) > 0 {
		if e := <-g.events; e.Chain == "edge" {
			told = append(told, e.Level+" "+e.Reason)
		}
	}
	if want := []string{"info Active", "warning FunctionNotFound"}; !slices.Equal(slices.Compact(told), want) {
		t.Errorf("events %q, want %q", told, want)
	}
}
