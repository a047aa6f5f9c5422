package control

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"sfc/ctrl/agent"
	"sfc/ctrl/api"
	"sfc/ctrl/client"
	"sfc/ctrl/compile"
	"sfc/ctrl/server"
	"sfc/nf"
	"sfc/testbed/gate"
	"sfc/testbed/netns"
)

// compilerChild is set in the compiler's children.
const compilerChild = "SFC_CONTROL_COMPILE"

// TestMain is also the compiler's children.
func TestMain(m *testing.M) {
	if os.Getenv(compilerChild) != "" {
		if err := compile.Child(context.Background(), os.Args[1], os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(gate.Main(m))
}

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

// bed is a control plane in this process, over a real data plane in a network
// namespace of its own, and with a real compiler.
type bed struct {
	tb    testing.TB
	opts  Options
	ready int // how often it was
	api   *client.Client
	stop  func() error // ends it and returns what Run returned
}

// newBed makes the data plane and the compiler; run starts control.
func newBed(tb testing.TB) *bed {
	tb.Helper()
	gate.Root(tb)
	gate.Leaks(tb)
	dir := tb.TempDir()
	ns := must[*netns.NS](tb)(netns.New())
	tb.Cleanup(func() {
		if err := ns.Close(); err != nil {
			tb.Error(err)
		}
	})
	d := must[*agent.Dataplane](tb)(agent.OpenPlane(agent.PlaneOptions{Kernel: agent.LocalKernel(ns.Do), Cores: []int{-1}, Chains: 64}))
	tb.Cleanup(func() {
		if err := d.Close(); err != nil {
			tb.Error(err)
		}
	})
	compiler := must[*compile.Compiler](tb)(compile.New(compile.Options{Dir: filepath.Join(dir, "code"), Command: func() *exec.Cmd {
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = []string{compilerChild + "=1"}
		return cmd
	}}))
	return &bed{tb: tb, opts: Options{DataDir: dir, Plane: d, Compiler: compiler, Version: "1.2.3"}}
}

func (b *bed) socket() string { return filepath.Join(b.opts.DataDir, "s") }

// run starts control on a unix socket and on more listeners, and waits until it
// is ready.
func (b *bed) run(more ...Listener) {
	b.tb.Helper()
	opts := b.opts
	opts.Listeners = append([]Listener{{"unix://" + b.socket(), must[net.Listener](b.tb)(server.ListenUnix(b.socket(), -1))}}, more...)
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() {
		done <- Run(ctx, opts, func() error { b.ready++; close(ready); return nil })
	}()
	b.stop = sync.OnceValue(func() error {
		cancel()
		b.api.Close()
		return <-done
	})
	b.api = must[*client.Client](b.tb)(client.New("unix://"+b.socket(), client.Options{}))
	b.tb.Cleanup(func() {
		if err := b.stop(); err != nil {
			b.tb.Error(err)
		}
	})
	select {
	case <-ready:
	case err := <-done:
		done <- err
		b.tb.Fatalf("it ended: %v", err)
	}
}

// hop is the function hop as a version.
func hop(tb testing.TB, version string) []byte {
	tb.Helper()
	wasm := must[[]byte](tb)(os.ReadFile("../../nf/catalog/hop/hop.wasm"))
	fields := map[string]any{}
	if err := json.Unmarshal(must[*nf.Module](tb)(nf.Inspect(wasm)).Manifest, &fields); err != nil {
		tb.Fatal(err)
	}
	fields["version"] = version
	return must[[]byte](tb)(nf.AppendManifest(wasm, must[[]byte](tb)(json.Marshal(fields))))
}

// put uploads a module.
func (b *bed) put(tenant, version string, wasm []byte, change ...func(*client.Upload)) error {
	u := client.Upload{Function: "hop", Version: version, Module: bytes.NewReader(wasm), Size: int64(len(wasm))}
	for _, f := range change {
		f(&u)
	}
	_, err := b.api.Upload(context.Background(), tenant, u)
	return err
}

func (b *bed) tenant(name string, spec api.TenantSpec) {
	b.tb.Helper()
	must[*api.Tenant](b.tb)(b.api.Tenants().Create(context.Background(), &api.Tenant{Metadata: api.Metadata{Name: name}, Spec: spec}))
}

// certificate writes one for 127.0.0.1 that is its own authority, and its key.
func certificate(tb testing.TB, cert, key string) (authority []byte) {
	tb.Helper()
	private := must[*ecdsa.PrivateKey](tb)(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true,
	}
	der := must[[]byte](tb)(x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private))
	authority = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	secret := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: must[[]byte](tb)(x509.MarshalPKCS8PrivateKey(private))})
	for path, text := range map[string][]byte{cert: authority, key: secret} {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			tb.Fatal(err)
		}
	}
	return authority
}
