package server

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
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
