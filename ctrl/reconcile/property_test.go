package reconcile

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"sfc/ctrl/api"
	"sfc/ctrl/functions"
	"sfc/ctrl/plane"
)

// Whatever changes, in whatever order, while the data plane fails, is restarted
// cold or warm, and control is restarted: when all is quiet, what runs is what
// the store says, by a rule that is written down here a second time.
func TestRandomChanges(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if s, err := strconv.ParseUint(os.Getenv("TEST_SEED"), 10, 64); err == nil {
		seed = s
	}
	t.Logf("TEST_SEED=%d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	g := newRig(t, nil)
	m := &model{rig: g, rng: rng, aliases: map[string]functions.Target{}, chains: map[string]string{}, digests: map[string]string{}}
	for _, tenant := range []string{"acme", "other"} {
		g.tenant(tenant, api.TenantSpec{})
		for i, d := range g.deploy(tenant, "1.0.0", "1.1.0", "1.2.0") {
			m.digests[fmt.Sprintf("1.%d.0", i)] = d
		}
	}
	g.compiler.delay = time.Millisecond
	g.plane.check = func(desired plane.Desired, codes map[string]bool) {
		seen := map[string]bool{}
		for _, c := range desired.Chains {
			if title := c.Tenant + "/" + c.Name; seen[title] {
				t.Errorf("%s is desired twice", title)
			} else {
				seen[title] = true
			}
		}
	}
	g.start()
	for range 6 {
		for range 40 {
			m.change()
		}
		m.quiet()
		g.await(m.wrong)
	}
}

// model is what the store says.
type model struct {
	*rig
	rng     *rand.Rand
	digests map[string]string           // of versions
	aliases map[string]functions.Target // by tenant/alias
	chains  map[string]string           // reference, by tenant/name
}

func (m *model) pick(all ...string) string { return all[m.rng.IntN(len(all))] }

// change does something.
func (m *model) change() {
	tenant := m.pick("acme", "other")
	version := m.pick("1.0.0", "1.1.0", "1.2.0")
	chain := m.pick("a", "b", "c", "d", "e")
	title := tenant + "/" + chain
	switch m.rng.IntN(12) {
	case 0, 1, 2, 3:
		ref := m.pick("flowstat@"+version, "flowstat@prod", "flowstat@9.0.0", "sha256:"+m.digests[version])
		m.chain(tenant, chain, nil, ref)
		m.chains[title] = ref
	case 4:
		if m.chains[title] != "" {
			m.remove(tenant, api.BucketChains, chain)
			delete(m.chains, title)
		}
	case 5, 6, 7:
		m.alias(tenant, "prod="+version)
		m.aliases[tenant] = functions.Target{Version: version}
	case 8:
		m.plane.restart(m.rng.IntN(2) == 0)
	case 9:
		m.plane.set(func() {
			m.plane.stutter = func() error {
				if rand.IntN(3) == 0 {
					return errDown
				}
				return nil
			}
			m.plane.refuse = func(c *plane.Chain) string {
				if rand.IntN(3) == 0 {
					return "FunctionFailed"
				}
				return ""
			}
		})
	case 10:
		m.plane.set(func() { m.plane.down = errDown })
		time.Sleep(time.Duration(m.rng.IntN(10)) * time.Millisecond)
		m.plane.set(func() { m.plane.down = nil })
	case 11:
		m.stop()
		m.start()
	}
	if m.rng.IntN(3) == 0 {
		time.Sleep(time.Duration(m.rng.IntN(5)) * time.Millisecond)
	}
}

// quiet ends all failures.
func (m *model) quiet() {
	m.plane.set(func() { m.plane.stutter, m.plane.refuse, m.plane.down = nil, nil, nil })
}

// wrong says what is not as the store says.
func (m *model) wrong() string {
	for _, tenant := range []string{"acme", "other"} {
		for _, chain := range []string{"a", "b", "c", "d", "e"} {
			title := tenant + "/" + chain
			ref, wanted := m.chains[title]
			want := m.digestOf(tenant, ref)
			c, runs := m.runs(tenant, chain)
			ready := m.condition(tenant, chain, api.Ready)
			switch {
			case !wanted && (runs || ready != "none"):
				return fmt.Sprintf("%s is gone, it runs %v, Ready=%s", title, runs, ready)
			case !wanted:
			case want == "" && ready != "False/FunctionNotFound":
				return fmt.Sprintf("%s has no function, Ready=%s", title, ready)
			case want != "" && (!runs || describe(&c) != short(want) || ready != "True/Active"):
				return fmt.Sprintf("%s runs %s, want %s, Ready=%s", title, describe(&c), short(want), ready)
			}
		}
	}
	return ""
}

func (m *model) digestOf(tenant, ref string) string {
	if len(ref) > 7 && ref[:7] == digestPrefix {
		return trim(ref)
	}
	if ref == "flowstat@prod" {
		return m.digests[m.aliases[tenant].Version]
	}
	if ref == "" {
		return ""
	}
	return m.digests[ref[len("flowstat@"):]]
}
