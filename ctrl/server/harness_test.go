package server

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"sfc/ctrl/api"
	"sfc/ctrl/client"
	"sfc/ctrl/plane"
	"sfc/ctrl/store"
	"sfc/testbed/gate"
)

func TestMain(m *testing.M) { os.Exit(gate.Main(m)) }

func must[T any](tb testing.TB) func(T, error) T {
	return func(v T, err error) T {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
		return v
	}
}

// is fails the test unless err is a problem with a status and a reason.
func is(tb testing.TB, err error, status int, reason string) *api.Problem {
	tb.Helper()
	p, ok := errors.AsType[*api.Problem](err)
	if !ok || p.Status != status || p.Reason != reason {
		tb.Fatalf("%v, want a problem %d %s", err, status, reason)
	}
	return p
}

// world is a server on a unix socket and on TLS, on a real store.
type world struct {
	*Server
	dir     string
	store   *store.Store
	address string // of TLS
	ca      []byte
	root    *client.Client // by the unix socket
	served  sync.WaitGroup
	stop    func() // once
}

// start starts a server on what is in a directory.
func start(tb testing.TB, dir string, change func(*Options)) *world {
	tb.Helper()
	w := &world{dir: dir}
	w.store = must[*store.Store](tb)(store.Open(tb.Context(), filepath.Join(dir, "store"), store.Options{Events: 64}))
	o := Options{
		Store: w.store, AuditFile: filepath.Join(dir, "audit.log"), Plane: &onePlane{}, Version: "1.2.3",
		Functions: &keptFunctions{store: w.store}, Limits: Limits{Rate: 100_000, Strangers: 100_000, Bookmark: 50 * time.Millisecond},
		Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", string(api.BodyMetrics))
			fmt.Fprintln(w, "sfc_up 1")
		}),
	}
	if change != nil {
		change(&o)
	}
	w.Server = must[*Server](tb)(New(tb.Context(), o))
	socket := filepath.Join(dir, "s")
	unix := must[net.Listener](tb)(ListenUnix(socket, -1))
	config, ca := certificate(tb)
	w.ca = ca
	secure := must[net.Listener](tb)(ListenTLS("127.0.0.1:0", config))
	w.address = secure.Addr().String()
	for _, l := range []net.Listener{unix, secure} {
		w.served.Go(func() {
			if err := w.Serve(l); err != nil {
				tb.Error(err)
			}
		})
	}
	w.root = must[*client.Client](tb)(client.New("unix://"+socket, client.Options{}))
	w.stop = sync.OnceFunc(func() {
		w.root.Close()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := w.Close(ctx); err != nil {
			tb.Error(err)
		}
		w.served.Wait()
		if err := w.store.Close(ctx); err != nil {
			tb.Error(err)
		}
	})
	tb.Cleanup(w.stop)
	return w
}

// certificate makes one for 127.0.0.1 that is its own authority.
func certificate(tb testing.TB) (*tls.Config, []byte) {
	tb.Helper()
	key := must[*ecdsa.PrivateKey](tb)(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true,
	}
	der := must[[]byte](tb)(x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key))
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}},
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// as is a client over TLS.
func (w *world) as(tb testing.TB, secret string) *client.Client {
	tb.Helper()
	c := must[*client.Client](tb)(client.New("https://"+w.address, client.Options{Token: secret, CAs: w.ca}))
	tb.Cleanup(c.Close)
	return c
}

// tenant makes a tenant.
func (w *world) tenant(tb testing.TB, name string, spec api.TenantSpec) {
	tb.Helper()
	must[*api.Tenant](tb)(w.root.Tenants().Create(tb.Context(), &api.Tenant{Metadata: api.Metadata{Name: name}, Spec: spec}))
}

// token makes a token and returns its secret.
func (w *world) token(tb testing.TB, tenant, name string, role api.Role) string {
	tb.Helper()
	t := must[*api.Token](tb)(w.root.Tokens(tenant).Create(tb.Context(), &api.Token{Metadata: api.Metadata{Name: name}, Spec: api.TokenSpec{Role: role}}))
	if t.Secret == "" {
		tb.Fatalf("token %s/%s has no secret", tenant, name)
	}
	return t.Secret
}

// chain is one that chains.Parse takes.
func chain(name string) *api.Chain {
	return &api.Chain{Metadata: api.Metadata{Name: name}, Spec: api.ChainSpec{
		Match: []api.ChainMatch{{Port: "in"}}, Egress: "out",
		Functions: []api.ChainFunction{{Module: "firewall@prod"}},
	}}
}

// keptFunctions is a function store that checks nothing: what a module is, is
// not the server's business. What it keeps, it keeps in the real store.
type keptFunctions struct{ store *store.Store }

func (k *keptFunctions) bucket(ctx context.Context, tenant, name string) (*store.Bucket, *store.Modules, error) {
	space, err := k.store.Tenant(ctx, tenant, store.Limits{})
	if err != nil {
		return nil, nil, err
	}
	m, err := space.Modules(ctx)
	if err != nil {
		return nil, nil, err
	}
	b, err := space.Bucket(ctx, name)
	return b, m, err
}

func (k *keptFunctions) Deploy(ctx context.Context, tenant string, d Deploy, module io.Reader) (*api.Function, bool, error) {
	b, m, err := k.bucket(ctx, tenant, api.BucketFunctions)
	if err != nil {
		return nil, false, err
	}
	mod, err := m.Put(ctx, module, store.PutOptions{MaxSize: d.MaxSize, Digest: strings.TrimPrefix(d.Digest, "sha256:")})
	if err != nil {
		return nil, false, err
	}
	f := &api.Function{
		Metadata: api.Metadata{Name: d.Function, Tenant: tenant, Generation: 1},
		Spec: api.FunctionSpec{
			Version: d.Version, Digest: "sha256:" + mod.Digest, Size: mod.Size,
			Provenance: api.Provenance{Source: d.Source, UploadedBy: d.By, UploadedAt: time.Now()},
		},
	}
	value, err := json.Marshal(f)
	if err != nil {
		return nil, false, err
	}
	revision, err := b.Create(ctx, api.StoreKey(f), value)
	if errors.Is(err, store.ErrExists) {
		e, err := b.Get(api.StoreKey(f))
		if err != nil {
			return nil, false, err
		}
		var have api.Function
		if err := json.Unmarshal(e.Value, &have); err != nil || have.Spec.Digest != f.Spec.Digest {
			return nil, false, errors.Join(err, api.NewProblem(http.StatusConflict, api.ReasonExists, "the version is there"))
		}
		have.Metadata.SetRevision(e.Revision)
		return &have, false, nil
	}
	f.Metadata.SetRevision(revision)
	return f, true, err
}

func (k *keptFunctions) DeleteVersion(ctx context.Context, tenant, function, version string, revision uint64) error {
	return k.remove(ctx, tenant, api.BucketFunctions, api.FunctionKey(function, version), revision)
}

func (k *keptFunctions) remove(ctx context.Context, tenant, bucket, key string, revision uint64) error {
	b, _, err := k.bucket(ctx, tenant, bucket)
	if err != nil {
		return err
	}
	e, err := b.Get(key)
	if err == nil {
		if revision == 0 {
			revision = e.Revision
		}
		_, err = b.Delete(ctx, key, revision)
	}
	return err
}

func (k *keptFunctions) OpenModule(ctx context.Context, tenant, function, version string) (io.ReadCloser, int64, error) {
	b, m, err := k.bucket(ctx, tenant, api.BucketFunctions)
	if err != nil {
		return nil, 0, err
	}
	e, err := b.Get(api.FunctionKey(function, version))
	if err != nil {
		return nil, 0, err
	}
	var f api.Function
	if err := json.Unmarshal(e.Value, &f); err != nil {
		return nil, 0, err
	}
	r, mod, err := m.Open(ctx, strings.TrimPrefix(f.Spec.Digest, "sha256:"))
	return io.NopCloser(r), mod.Size, err
}

func (k *keptFunctions) SetAlias(ctx context.Context, tenant string, a *api.Alias, revision uint64, absent bool, _ string) (*api.Alias, bool, error) {
	b, _, err := k.bucket(ctx, tenant, api.BucketAliases)
	if err != nil {
		return nil, false, err
	}
	e, err := b.Get(api.StoreKey(a))
	a.Metadata.Generation = 1
	if err == nil {
		var old api.Alias
		if err := json.Unmarshal(e.Value, &old); err != nil {
			return nil, false, err
		}
		a.Metadata.Generation = old.Metadata.Generation + 1
		if revision == 0 {
			revision = e.Revision
		}
	}
	value, merr := json.Marshal(a)
	if merr != nil {
		return nil, false, merr
	}
	made := errors.Is(err, store.ErrNotFound)
	if absent || made && revision == 0 {
		revision, err = b.Create(ctx, api.StoreKey(a), value)
	} else {
		revision, err = b.Update(ctx, api.StoreKey(a), value, revision)
	}
	a.Metadata.SetRevision(revision)
	return a, made, err
}

func (k *keptFunctions) DeleteAlias(ctx context.Context, tenant, function, alias string, revision uint64) error {
	return k.remove(ctx, tenant, api.BucketAliases, api.AliasKey(function, alias), revision)
}

func (k *keptFunctions) Rollback(ctx context.Context, tenant, function, alias string, revision uint64, by string) (*api.Alias, error) {
	a := &api.Alias{Metadata: api.Metadata{Name: alias, Tenant: tenant}, Spec: api.AliasSpec{Function: function, Version: "1.0.0"}}
	a, _, err := k.SetAlias(ctx, tenant, a, revision, false, by)
	return a, err
}

// onePlane answers for two tenants, and does not look at whom it is asked about:
// the server must not rely on it.
type onePlane struct{ plane.Plane }

func (*onePlane) Observe(context.Context) (plane.Observed, error) {
	return plane.Observed{Started: time.Unix(1, 0)}, nil
}

func (*onePlane) Stats(context.Context) (plane.Stats, error) {
	return plane.Stats{
		Time: time.Unix(1, 0).UTC(), Workers: []plane.WorkerStats{{Core: 1}}, Ports: []plane.PortStats{{Name: "in"}},
		Chains: []plane.ChainStats{
			{Tenant: "acme", Name: "edge", Packets: 7, Functions: []plane.FunctionStats{{Name: "firewall"}}},
			{Tenant: "other", Name: "secret-chain"},
		},
		Tenants: []plane.TenantStats{{Name: "acme", Share: 500}, {Name: "other"}},
	}, nil
}

func (*onePlane) Flows(_ context.Context, q plane.FlowQuery) ([]plane.Flow, error) {
	if q.Filter == "nonsense" {
		return nil, errors.New("filter: syntax error")
	}
	return []plane.Flow{{Tenant: "acme", Chain: "edge", Proto: "tcp", Src: "10.0.0.1:1"}, {Tenant: "other", Chain: "secret-chain", Worker: 1}}, nil
}

func (*onePlane) Events(ctx context.Context, after uint64) ([]plane.Event, error) {
	if after == 0 {
		return []plane.Event{
			{Seq: 1, Time: time.Unix(1, 0).UTC(), Kind: "log", Reason: "Log", Level: "info", Tenant: "acme", Chain: "edge", Function: "firewall", Text: "hello", Worker: 1},
			{Seq: 2, Time: time.Unix(2, 0).UTC(), Kind: "log", Reason: "Log", Level: "info", Tenant: "other", Text: "secret-text"},
			{Seq: 3, Time: time.Unix(3, 0).UTC(), Kind: "port", Reason: "LinkDown", Level: "warning", Text: "secret-host", Worker: -1},
		}, nil
	}
	<-ctx.Done()
	return nil, nil
}

func (*onePlane) Trace(ctx context.Context, r plane.TraceRequest) ([]plane.Trace, error) {
	if r.Filter == "never" {
		<-ctx.Done()
		return nil, nil
	}
	return []plane.Trace{{Time: time.Unix(1, 0).UTC(), Port: "in", Frame: []byte{1}, Hops: []plane.TraceHop{{Function: r.Tenant + "/" + r.Chain, Changes: []plane.Change{{Offset: 1}}}}}}, nil
}

// capturePiece is what a capture writes, r.Count times.
var capturePiece = bytes.Repeat([]byte("pcapng"), 1000)

func (*onePlane) Capture(ctx context.Context, r plane.CaptureRequest, out *os.File) (plane.CaptureReport, error) {
	if r.Filter == "nonsense" {
		return plane.CaptureReport{}, errors.New("filter: syntax error")
	}
	for i := 0; r.Count == 0 || i < r.Count; i++ {
		if ctx.Err() != nil {
			break
		}
		if _, err := out.Write(capturePiece); err != nil {
			break
		}
	}
	return plane.CaptureReport{}, nil
}

// digestOf is a module's digest.
func digestOf(module []byte) string {
	sum := sha256.Sum256(module)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// upload1 is a module on its way.
func upload1(version string) client.Upload {
	return client.Upload{Function: "firewall", Version: version, Module: strings.NewReader(module), Size: int64(len(module)), Source: "a test"}
}

// onSocket is a client on the unix socket with a token.
func (w *world) onSocket(tb testing.TB, secret string) *client.Client {
	tb.Helper()
	c := must[*client.Client](tb)(client.New("unix://"+filepath.Join(w.dir, "s"), client.Options{Token: secret}))
	tb.Cleanup(c.Close)
	return c
}

// clientTLS trusts the world's certificate.
func (w *world) clientTLS() *tls.Config {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(w.ca)
	return &tls.Config{RootCAs: pool}
}
