package reconcile

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"sfc/chains"
	"sfc/ctrl/api"
	"sfc/ctrl/plane"
	"sfc/ctrl/store"
)

// chain is a chain of a tenant: what its object asks for, in the form that is
// looked at each round, and what became of it.
type chain struct {
	tenant, name string
	uid          string
	generation   int64
	created      time.Time
	drain        bool
	document     []byte // for plane.Chain.Spec
	hops         []hop
	ports        []string // that it names
	everywhere   bool     // a match names no port
	flows        int64
	invalid      problem // the object makes no sense
	gone         bool    // there is no object, only what ran last

	good   *wanted // what the data plane took last
	failed failure // what it refused last

	status  api.ChainStatus // as it was written last
	written []byte
}

// hop is a function of a chain.
type hop struct{ name, ref string }

// wanted is a chain as it is to run. It is never changed.
type wanted struct {
	// key is the same for what is the same.
	key    string
	chain  plane.Chain
	flows  int64
	memory int64 // bytes that the state of its flows takes, without tables
	hops   []hop
	names  names
}

// names are the versions under which functions' modules are stored. They change
// nothing of what runs.
type names map[hop]string // hop's ref is a digest

// failure is what the data plane refused, and when to try it again.
type failure struct {
	key string
	problem
	attempts int
	until    time.Time
	held     bool // until lies ahead
}

// newChain reads a chain's object.
func newChain(tenant string, o *api.Chain) *chain {
	c := &chain{
		tenant: tenant, name: o.Metadata.Name, uid: o.Metadata.UID, generation: o.Metadata.Generation,
		created: o.Metadata.CreatedAt, drain: o.Spec.Drain, flows: int64(o.Spec.Flows),
	}
	if c.flows == 0 {
		c.flows = chains.DefaultFlows
	}
	named := *o
	named.Metadata.Tenant = tenant
	named.Spec.Functions = slices.Clone(o.Spec.Functions)
	for i := range named.Spec.Functions {
		f := &named.Spec.Functions[i]
		if f.Name == "" {
			// What chains.Parse would take from the name of a file.
			f.Name, _, _ = strings.Cut(f.Module, "@")
		}
		c.hops = append(c.hops, hop{f.Name, f.Module})
	}
	c.namePorts(&o.Spec)
	var err error
	if c.document, err = named.Document(); err != nil {
		c.invalid = problem{reasonSpec, err.Error()}
	}
	return c
}

// namePorts collects the ports that a spec names.
func (c *chain) namePorts(s *api.ChainSpec) {
	seen := map[string]bool{s.Egress: true}
	matches := s.Match
	for _, m := range matches {
		seen[m.Port] = true
	}
	c.everywhere = len(matches) == 0 || seen[""]
	if r := s.Return; r != nil {
		seen[r.Egress] = true
		for _, m := range r.Match {
			seen[m.Port] = true
		}
	}
	for _, a := range s.Addresses {
		seen[a.Port] = true
	}
	delete(seen, "")
	c.ports = slices.Sorted(maps.Keys(seen))
}

// resolveChain looks up the functions of a chain.
func resolveChain(t *tenantView, c *chain) (*wanted, problem) {
	w := &wanted{hops: c.hops, names: names{}, chain: plane.Chain{
		Tenant: c.tenant, Name: c.name, Generation: c.generation, Spec: c.document, Drain: c.drain, Code: make(map[string]string, len(c.hops)),
	}}
	key := make([]byte, 0, 64+80*len(c.hops))
	key = fmt.Appendf(key, "%s %d %v", c.uid, c.generation, c.drain)
	var state int64
	for _, h := range c.hops {
		res, err := t.index.Resolve(h.ref)
		if err != nil {
			return nil, lookup(h, err)
		}
		for _, f := range []*api.Function{res.Function, res.Canary} {
			if f == nil || !t.tenant.Spec.RequireSigned {
				continue
			}
			if err := t.index.Trust(f); err != nil {
				return nil, problem{reasonSignature, "function " + h.name + ": " + err.Error()}
			}
		}
		digest := trim(res.Function.Spec.Digest)
		w.chain.Code[h.ref] = digest
		w.names[hop{h.name, digest}] = res.Function.Spec.Version
		key = append(append(key, ' '), digest...)
		state += int64(res.Function.Spec.Manifest.FlowStateBytes)
		if res.Canary != nil {
			code := trim(res.Canary.Spec.Digest)
			w.names[hop{h.name, code}] = res.Canary.Spec.Version
			if code == digest {
				w.names[hop{h.name, code}] = res.Function.Spec.Version
				continue // the same module under two versions: nothing to try
			}
			w.chain.Canaries = append(w.chain.Canaries, plane.Canary{Function: h.name, Code: code, Percent: res.Percent})
			key = append(strconv.AppendInt(append(key, '+'), int64(res.Percent), 10), code...)
		}
	}
	if state > 0 {
		w.flows, w.memory = c.flows, c.flows*state
	}
	w.key = string(key)
	return w, problem{}
}

// lookup says why a reference stands for nothing.
func lookup(h hop, err error) problem {
	p := problem{reasonReference, "function " + h.name + ": " + err.Error()}
	if errors.Is(err, store.ErrNotFound) {
		p.reason = reasonFunction
	}
	return p
}

// digests returns those of all modules of it.
func (w *wanted) digests() []string {
	all := make([]string, 0, len(w.chain.Code)+len(w.chain.Canaries))
	for _, d := range w.chain.Code {
		all = append(all, d)
	}
	for _, y := range w.chain.Canaries {
		all = append(all, y.Code)
	}
	return all
}

// runs says whether a status is that of w, as it is.
func (w *wanted) runs(s *plane.ChainStatus) bool {
	if !s.Active || s.Generation != w.chain.Generation {
		return false
	}
	for _, f := range s.Functions {
		for _, h := range w.hops {
			if h.name == f.Name && w.chain.Code[h.ref] != f.Code {
				return false
			}
		}
	}
	return true
}

const digestPrefix = "sha256:"

func trim(digest string) string { return strings.TrimPrefix(digest, digestPrefix) }

// quotaChains is what is counted where chains themselves are.
const quotaChains = "chains"

// quotaText says what a tenant may have, and that it would have more.
func quotaText(tenant, what string, need, used, limit int64) string {
	if what == quotaChains {
		return fmt.Sprintf("%s may have %d chains, and has %d: delete one, or have the limit raised", tenant, limit, used)
	}
	return fmt.Sprintf("%s may have %d %s, its other chains have %d, this one needs %d: lower spec.flows, or have the limit raised", tenant, limit, what, used, need)
}

// kept is what ran last, as it is stored.
type kept struct {
	Key    string      `json:"key"`
	Chain  plane.Chain `json:"chain"`
	Flows  int64       `json:"flows"`
	Memory int64       `json:"memory"`
	Hops   [][2]string `json:"hops"`
	Names  [][3]string `json:"names,omitzero"` // function, digest, version
}

func (w *wanted) keep() kept {
	k := kept{Key: w.key, Chain: w.chain, Flows: w.flows, Memory: w.memory}
	for _, h := range w.hops {
		k.Hops = append(k.Hops, [2]string{h.name, h.ref})
	}
	for h, version := range w.names {
		k.Names = append(k.Names, [3]string{h.name, h.ref, version})
	}
	return k
}

func (k *kept) wanted() *wanted {
	w := &wanted{key: k.Key, chain: k.Chain, flows: k.Flows, memory: k.Memory}
	for _, h := range k.Hops {
		w.hops = append(w.hops, hop{h[0], h[1]})
	}
	w.names = make(names, len(k.Names))
	for _, n := range k.Names {
		w.names[hop{n[0], n[1]}] = n[2]
	}
	return w
}
