package control

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sfc/ctrl/api"
	"sfc/ctrl/client"
	"sfc/ctrl/kernelipc"
	"sfc/ctrl/store"
)

// It starts, makes a tenant where there is none at all, takes a function in and
// has it compiled, and ends with nothing left. Started again it has everything,
// and makes no tenant that somebody deleted.
func TestRun(t *testing.T) {
	b := newBed(t)
	b.opts.Tenant = "demo"
	b.run()
	if b.ready != 1 {
		t.Errorf("it was ready %d times", b.ready)
	}
	id := must[*api.Identity](t)(b.api.Identity(t.Context()))
	if id.Server != "1.2.3" || id.Role != api.Admin {
		t.Errorf("%+v", id)
	}
	must[*api.Tenant](t)(b.api.Tenants().Get(t.Context(), "demo"))
	if err := b.put("demo", "1.0.0", hop(t, "1.0.0")); err != nil {
		t.Fatal(err)
	}
	compiled := func() bool {
		f := must[*api.Function](t)(b.api.Function(t.Context(), "demo", "hop", "1.0.0"))
		return f.Status.Conditions.IsTrue(api.Ready)
	}
	for end := time.Now().Add(20 * time.Second); !compiled(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it is never compiled")
		}
	}
	must[*api.Chain](t)(b.api.Chains("demo").Create(t.Context(), &api.Chain{Metadata: api.Metadata{Name: "edge"}, Spec: api.ChainSpec{
		Egress: "out", Functions: []api.ChainFunction{{Module: "hop@1.0.0"}},
	}}))
	err := Run(t.Context(), b.opts, func() error { return errors.New("it must not be ready") })
	if !errors.Is(err, store.ErrLocked) || !strings.Contains(err.Error(), "process ") {
		t.Errorf("a second one on the same data: %v", err)
	}
	if err := b.stop(); err != nil {
		t.Fatal(err)
	}
	b.run()
	must[*api.Chain](t)(b.api.Chains("demo").Get(t.Context(), "edge"))
	b.tenant("other", api.TenantSpec{})
	if err := errors.Join(b.api.Chains("demo").Delete(t.Context(), "edge", ""), b.api.Tenants().Delete(t.Context(), "demo", "")); err != nil {
		t.Fatal(err)
	}
	if err := b.stop(); err != nil {
		t.Fatal(err)
	}
	b.run()
	_, err = b.api.Tenants().Get(t.Context(), "demo")
	is(t, err, 404, api.ReasonNotFound)
}

// What cannot begin says why, and gives everything back.
func TestRunRefuses(t *testing.T) {
	b := newBed(t)
	broken := errors.New("not ready after all")
	err := Run(t.Context(), b.opts, func() error { return broken })
	if !errors.Is(err, broken) {
		t.Errorf("ready failed: %v", err)
	}
	l := must[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0"))
	defer l.Close()
	for want, change := range map[string]func(*Options){
		"tokens must not be read on the way": func(o *Options) { o.Listeners = []Listener{{"https://127.0.0.1:0", l}} },
		"certificate: open /nowhere": func(o *Options) {
			o.Listeners, o.TLSCert, o.TLSKey = []Listener{{"https://127.0.0.1:0", l}}, "/nowhere", "/nowhere"
		},
		"control: DataDir, Plane and Compiler are required": func(o *Options) { o.Compiler = nil },
		"/dev/null": func(o *Options) { o.DataDir = "/dev/null" },
	} {
		o := b.opts
		change(&o)
		err := Run(t.Context(), o, func() error { return errors.New("it must not be ready") })
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q in it", err, want)
		}
	}
}

// A renewed certificate is good for the next client; while the file is broken
// nobody new comes in over TLS, and the unix socket is not concerned.
func TestCertificateIsRenewed(t *testing.T) {
	b := newBed(t)
	b.opts.TLSCert, b.opts.TLSKey = filepath.Join(b.opts.DataDir, "cert"), filepath.Join(b.opts.DataDir, "key")
	old := certificate(t, b.opts.TLSCert, b.opts.TLSKey)
	l := must[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0"))
	address := "https://" + l.Addr().String()
	b.run(Listener{address, l})
	b.tenant("acme", api.TenantSpec{})
	token := must[*api.Token](t)(b.api.Tokens("acme").Create(t.Context(), &api.Token{Metadata: api.Metadata{Name: "ci"}, Spec: api.TokenSpec{Role: api.Deployer}}))
	ask := func(authority []byte) error {
		c := must[*client.Client](t)(client.New(address, client.Options{Token: token.Secret, CAs: authority}))
		defer c.Close()
		id, err := c.Identity(context.Background())
		if err == nil && id.Tenant != "acme" {
			t.Errorf("%+v", id)
		}
		return err
	}
	if err := ask(old); err != nil {
		t.Fatal(err)
	}
	next := certificate(t, b.opts.TLSCert, b.opts.TLSKey)
	if err := ask(next); err != nil {
		t.Errorf("with the renewed certificate: %v", err)
	}
	if err := ask(old); err == nil {
		t.Error("the old certificate is still shown")
	}
	if err := os.WriteFile(b.opts.TLSCert, []byte("half a"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := ask(next); err == nil {
		t.Error("a client came in without a certificate")
	}
	must[*api.Tenant](t)(b.api.Tenants().Get(t.Context(), "acme"))
	if err := ask(certificate(t, b.opts.TLSCert, b.opts.TLSKey)); err != nil {
		t.Errorf("with the repaired certificate: %v", err)
	}
}

// What the function store refuses reaches the client as what it is.
func TestRefusalsOfTheFunctionStore(t *testing.T) {
	b := newBed(t)
	b.run()
	b.tenant("acme", api.TenantSpec{Modules: 2})
	b.tenant("strict", api.TenantSpec{RequireSigned: true})
	one := hop(t, "1.0.0")
	put := func(tenant, version string, wasm []byte, change ...func(*client.Upload)) error {
		t.Helper()
		return b.put(tenant, version, wasm, change...)
	}
	is(t, put("strict", "1.0.0", one), 422, api.ReasonUnsigned)
	is(t, put("acme", "1.0.0", []byte("no module")), 422, api.ReasonRejected)
	is(t, put("acme", "1.0.0", one, func(u *client.Upload) { u.Digest = "sha256:" + strings.Repeat("0", 64) }), 422, api.ReasonRejected)
	is(t, put("acme", "1.0.0", one, func(u *client.Upload) { u.Signature = make([]byte, 64) }), 422, api.ReasonUnsigned)
	for range 2 { // the same again is no conflict
		if err := put("acme", "1.0.0", one); err != nil {
			t.Fatal(err)
		}
	}
	is(t, put("acme", "1.0.0", append(hop(t, "1.0.0"), 0, 2, 1, 'x')), 409, api.ReasonExists)
	if err := put("acme", "1.0.1", hop(t, "1.0.1")); err != nil {
		t.Fatal(err)
	}
	is(t, put("acme", "1.0.2", hop(t, "1.0.2")), 403, api.ReasonQuota)
	must[*api.Alias](t)(b.api.PutAlias(t.Context(), "acme", "hop", "prod", api.AliasSpec{Version: "1.0.0"}, ""))
	is(t, b.api.DeleteFunction(t.Context(), "acme", "hop", "1.0.0"), 409, api.ReasonInUse)
	_, err := b.api.PutAlias(t.Context(), "acme", "hop", "prod", api.AliasSpec{Version: "9.0.0"}, "")
	is(t, err, 404, api.ReasonNotFound)
	must[*api.Chain](t)(b.api.Chains("acme").Create(t.Context(), &api.Chain{Metadata: api.Metadata{Name: "edge"}, Spec: api.ChainSpec{
		Egress: "out", Functions: []api.ChainFunction{{Module: "hop@prod"}},
	}}))
	is(t, b.api.DeleteAlias(t.Context(), "acme", "hop", "prod", ""), 409, api.ReasonInUse)
	_, err = b.api.Module(t.Context(), "acme", "hop", "7.0.0")
	is(t, err, 404, api.ReasonNotFound)
	// A tenant that is made again has none of what it had.
	if err := b.api.Chains("acme").Delete(t.Context(), "edge", ""); err != nil {
		t.Fatal(err)
	}
	if err := b.api.Tenants().Delete(t.Context(), "acme", ""); err != nil {
		t.Fatal(err)
	}
	b.tenant("acme", api.TenantSpec{})
	if list := must[*api.List[api.Function]](t)(b.api.AllFunctions(t.Context(), "acme", "")); len(list.Items) != 0 {
		t.Errorf("%d versions of the tenant before", len(list.Items))
	}
	if err := put("acme", "1.0.2", hop(t, "1.0.2")); err != nil {
		t.Error(err)
	}
}

// A process that dies again and again is told of once, and once more when that
// is over; meanwhile health says so.
func TestCrashLoopIsTold(t *testing.T) {
	c := &children{}
	var told []string
	tell := func(e api.Event) { told = append(told, e.Level+" "+e.Reason) }
	status := func(alarm bool) kernelipc.Status {
		return kernelipc.Status{Children: []kernelipc.ChildStatus{
			{Role: kernelipc.RoleDataplane, Alarm: alarm, Restarts: 5, LastExit: "ended with signal: killed"}, {Role: kernelipc.RoleControl},
		}}
	}
	for _, alarm := range []bool{false, true, true, false, false} {
		c.see(status(alarm), tell)
		said := strings.Join(c.problems(), "; ")
		if (said != "") != alarm || alarm && !strings.Contains(said, "dataplane dies again and again, 5 times so far: ended with signal: killed") {
			t.Errorf("alarm %v: %q", alarm, said)
		}
	}
	if got := strings.Join(told, ", "); got != "error CrashLoop, info CrashLoopOver" {
		t.Errorf("told: %s", got)
	}
}
