package reconcile

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"sfc/ctrl/api"
	"sfc/ctrl/functions"
	"sfc/ctrl/plane"
	"sfc/ctrl/store"
	"sfc/nf"
	"sfc/testbed/gate"
)

func TestMain(m *testing.M) { os.Exit(gate.Main(m)) }

func must[T any](tb testing.TB) func(T, error) T {
	tb.Helper()
	return func(v T, err error) T {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
		return v
	}
}

// rig is a store, a data plane and a reconciler between them, and plays the API
// server.
type rig struct {
	tb       testing.TB
	st       *store.Store
	plane    *fakePlane
	compiler *fakeCompiler
	r        *Reconciler
	stop     func()
	opts     func(*Options)
	serial   int
	events   chan api.Event
}

func newRig(tb testing.TB, change func(*Options)) *rig {
	tb.Helper()
	st := must[*store.Store](tb)(store.Open(context.Background(), tb.TempDir(), store.Options{}))
	tb.Cleanup(func() {
		if err := st.Close(context.Background()); err != nil {
			tb.Error(err)
		}
	})
	g := &rig{
		tb: tb, st: st, plane: newFakePlane(), opts: change, events: make(chan api.Event, 1<<16),
		compiler: &fakeCompiler{built: map[string]int{}, broken: map[string]bool{}, dir: tb.TempDir()},
	}
	g.port("in")
	g.port("out")
	return g
}

// start starts a reconciler; the one before has been stopped.
func (g *rig) start() {
	g.tb.Helper()
	o := Options{
		Store: g.st, Plane: g.plane, Compiler: g.compiler, Observe: 50 * time.Millisecond, Retry: 5 * time.Millisecond, RetryMax: 100 * time.Millisecond,
		Space: func(ctx context.Context, t *api.Tenant) (*store.Space, error) {
			return g.st.Tenant(ctx, t.Metadata.Name, store.Limits{})
		},
		Event: func(e api.Event) {
			select {
			case g.events <- e:
			default:
			}
		},
	}
	if g.opts != nil {
		g.opts(&o)
	}
	g.r = must[*Reconciler](g.tb)(New(o))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- g.r.Run(ctx) }()
	stopped := false
	g.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			g.tb.Error(err)
		}
	}
	g.tb.Cleanup(g.stop)
}

func (g *rig) space(tenant string) *store.Space {
	g.tb.Helper()
	if tenant == "" {
		return must[*store.Space](g.tb)(g.st.System(context.Background()))
	}
	return must[*store.Space](g.tb)(g.st.Tenant(context.Background(), tenant, store.Limits{}))
}

func (g *rig) bucket(tenant, name string) *store.Bucket {
	g.tb.Helper()
	return must[*store.Bucket](g.tb)(g.space(tenant).Bucket(context.Background(), name))
}

// write makes or changes an object, as the server does.
func (g *rig) write(bucket string, o api.Object) {
	g.tb.Helper()
	_, meta := o.Header()
	b := g.bucket(map[bool]string{true: meta.Tenant}[bucket != api.BucketTenants], bucket)
	key := api.StoreKey(o)
	e, err := b.Get(key)
	meta.Generation, meta.CreatedAt = 1, time.Unix(int64(g.serial), 0).UTC()
	g.serial++
	meta.UID = fmt.Sprint("uid", g.serial)
	if err == nil {
		var was struct{ Metadata api.Metadata }
		if err := json.Unmarshal(e.Value, &was); err != nil {
			g.tb.Fatal(err)
		}
		meta.UID, meta.Generation, meta.CreatedAt = was.Metadata.UID, was.Metadata.Generation+1, was.Metadata.CreatedAt
		must[uint64](g.tb)(b.Update(context.Background(), key, must[[]byte](g.tb)(json.Marshal(o)), e.Revision))
		return
	}
	if err := g.create(b, key, must[[]byte](g.tb)(json.Marshal(o))); err != nil {
		g.tb.Fatal(err)
	}
}

// create makes a key, again when the store could not say whether it did: as
// clients do on a machine that has more to do than it can.
func (g *rig) create(b *store.Bucket, key string, value []byte) error {
	doubt := false
	for range 50 {
		_, err := b.Create(context.Background(), key, value)
		switch {
		case errors.Is(err, store.ErrUnavailable):
			doubt = true
			time.Sleep(100 * time.Millisecond)
		case doubt && errors.Is(err, store.ErrExists):
			return nil
		default:
			return err
		}
	}
	return store.ErrUnavailable
}

func (g *rig) remove(tenant, bucket, key string) {
	g.tb.Helper()
	b := g.bucket(tenant, bucket)
	must[uint64](g.tb)(b.Delete(context.Background(), key, must[store.Entry](g.tb)(b.Get(key)).Revision))
}

func (g *rig) port(name string, tenants ...string) {
	g.tb.Helper()
	g.write(api.BucketPorts, &api.Port{Metadata: api.Metadata{Name: name}, Spec: api.PortSpec{Tenants: tenants}})
}

func (g *rig) tenant(name string, spec api.TenantSpec) {
	g.tb.Helper()
	g.write(api.BucketTenants, &api.Tenant{Metadata: api.Metadata{Name: name}, Spec: spec})
}

// chain makes or changes a chain from in to out.
func (g *rig) chain(tenant, name string, change func(*api.ChainSpec), refs ...string) {
	g.tb.Helper()
	s := api.ChainSpec{Egress: "out", Match: []api.ChainMatch{{Port: "in"}}}
	for i, ref := range refs {
		s.Functions = append(s.Functions, api.ChainFunction{Name: fmt.Sprint("f", i), Module: ref})
	}
	if change != nil {
		change(&s)
	}
	g.write(api.BucketChains, &api.Chain{Metadata: api.Metadata{Name: name, Tenant: tenant}, Spec: s})
}

// library opens a tenant's functions.
func (g *rig) library(tenant string) *functions.Store {
	g.tb.Helper()
	return must[*functions.Store](g.tb)(functions.Open(context.Background(), g.space(tenant), functions.Options{Spool: g.tb.TempDir()}))
}

// flowstat returns the function flowstat, which keeps flow state, as a version.
func flowstat(tb testing.TB, version string) []byte {
	tb.Helper()
	wasm := must[[]byte](tb)(os.ReadFile("../../nf/catalog/flowstat/flowstat.wasm"))
	m := must[*nf.Module](tb)(nf.Inspect(wasm))
	fields := map[string]any{}
	if err := json.Unmarshal(m.Manifest, &fields); err != nil {
		tb.Fatal(err)
	}
	fields["version"] = version
	return must[[]byte](tb)(nf.AppendManifest(wasm, must[[]byte](tb)(json.Marshal(fields))))
}

// deploy stores versions of flowstat and returns their digests.
func (g *rig) deploy(tenant string, versions ...string) (digests []string) {
	g.tb.Helper()
	lib := g.library(tenant)
	for _, v := range versions {
		f, _, err := lib.Put(context.Background(), functions.Upload{Module: bytes.NewReader(flowstat(g.tb, v)), By: "tester"}, functions.Policy{})
		if err != nil {
			g.tb.Fatal(err)
		}
		digests = append(digests, trim(f.Spec.Digest))
	}
	return digests
}

func (g *rig) alias(tenant, assignment string) {
	g.tb.Helper()
	name, target, err := functions.ParseAssignment(assignment)
	if err == nil {
		_, err = g.library(tenant).MoveAlias(context.Background(), "flowstat", name, target, "", "tester")
	}
	if err != nil {
		g.tb.Fatal(err)
	}
}

// status reads what was written of an object.
func status[T any](g *rig, tenant, bucket, key string) (s T, ok bool) {
	g.tb.Helper()
	e, err := g.bucket(tenant, api.BucketStatus).Get(api.StatusKey(bucket, key))
	if err != nil {
		return s, false
	}
	if err := json.Unmarshal(e.Value, &s); err != nil {
		g.tb.Fatal(err)
	}
	return s, true
}

// conditions returns a chain's conditions as "Ready=True/Active ...".
func (g *rig) condition(tenant, chain, typ string) string {
	g.tb.Helper()
	s, ok := status[api.ChainStatus](g, tenant, api.BucketChains, chain)
	c := s.Conditions.Find(typ)
	if !ok || c == nil {
		return "none"
	}
	return c.Status + "/" + c.Reason
}

// await waits until f says nothing, and fails with what it says.
func (g *rig) await(f func() string) {
	g.tb.Helper()
	end := time.Now().Add(20 * time.Second)
	for {
		says := f()
		if says == "" {
			return
		}
		if time.Now().After(end) {
			g.tb.Fatal("it never came to: " + says)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// awaitCondition waits for a condition of a chain, of its latest generation.
func (g *rig) awaitCondition(tenant, chain, typ, want string) {
	g.tb.Helper()
	g.await(func() string {
		if got := g.condition(tenant, chain, typ); got != want {
			return fmt.Sprintf("%s/%s has %s=%s, want %s", tenant, chain, typ, got, want)
		}
		return ""
	})
}

// runs returns a chain as the data plane has it.
func (g *rig) runs(tenant, chain string) (plane.Chain, bool) {
	g.plane.mu.Lock()
	defer g.plane.mu.Unlock()
	c, ok := g.plane.chains[tenant+"/"+chain]
	return c, ok
}

// awaitRuns waits until the data plane runs a chain with code and canary.
func (g *rig) awaitRuns(tenant, chain string, want string) {
	g.tb.Helper()
	g.await(func() string {
		c, ok := g.runs(tenant, chain)
		got := "nothing"
		if ok {
			got = describe(&c)
		}
		if got != want {
			return fmt.Sprintf("%s/%s runs %s, want %s", tenant, chain, got, want)
		}
		return ""
	})
}

// describe says what a chain runs, as "code" or "code+10% code".
func describe(c *plane.Chain) string {
	text := ""
	for _, d := range c.Code {
		text += short(d)
	}
	for _, y := range c.Canaries {
		text += fmt.Sprintf("+%d%% %s", y.Percent, short(y.Code))
	}
	return text
}

func short(digest string) string { return digest[:8] }

var errDown = errors.New("data plane is down")
