package daemon

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"sfc/ctrl/api"
)

// certify writes a certificate for 127.0.0.1 and its key, for everybody to read.
func certify(t testing.TB, dir string) (cert, key string, trust *x509.CertPool) {
	t.Helper()
	private := must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der := must[[]byte](t)(x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private))
	cert, key, trust = filepath.Join(dir, "cert"), filepath.Join(dir, "key"), x509.NewCertPool()
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	trust.AppendCertsFromPEM(text)
	check(t, os.WriteFile(cert, text, 0o644))
	check(t, os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: must[[]byte](t)(x509.MarshalPKCS8PrivateKey(private))}), 0o644))
	return cert, key, trust
}

// Clients that connect and say nothing, or half of it, are cut off after the
// daemon's own time on both kinds of sockets, and cost nobody else anything. One
// more than there may be is turned away at once, and the places come back.
func TestFaultSlowClients(t *testing.T) {
	dir := publicDir(t)
	cert, key, trust := certify(t, dir)
	const address = "127.0.0.1:8443"
	f := newFaulty(t, dir, "--listen", "https://"+address, "--tls-cert", cert, "--tls-key", key)
	f.tenant("acme")
	f.ports(api.UnmatchedDrop)
	f.active("acme", "edge", 5)
	s := f.stream(5, time.Millisecond)
	dials := map[string]func() (net.Conn, error){
		"unix": func() (net.Conn, error) { return net.Dial("unix", strings.TrimPrefix(f.address(), "unix://")) },
		"tcp": func() (c net.Conn, err error) {
			err = f.ns.Do(func() error { c, err = net.Dial("tcp", address); return err })
			return c, err
		},
		"tls": func() (c net.Conn, err error) {
			err = f.ns.Do(func() error { c, err = tls.Dial("tcp", address, &tls.Config{RootCAs: trust}); return err })
			return c, err
		},
	}
	// The daemon's limits: 10 s for a header or a handshake.
	const least, most = 9 * time.Second, 15 * time.Second
	var slow sync.WaitGroup
	worst := f.while("slow clients", func() {
		for kind, dial := range dials {
			for _, say := range []string{"", "GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: "} {
				for range 20 {
					c := must[net.Conn](t)(dial())
					begin := time.Now()
					slow.Go(func() {
						defer c.Close()
						if _, err := io.WriteString(c, say); err != nil {
							t.Errorf("%s: %v", kind, err)
							return
						}
						check(t, c.SetReadDeadline(begin.Add(most)))
						_, err := io.Copy(io.Discard, c)
						took := time.Since(begin)
						// Plain text on a socket for TLS is refused at once.
						if refused := kind == "tcp" && say != ""; errors.Is(err, os.ErrDeadlineExceeded) || took < least && !refused {
							t.Errorf("%s, said %q: cut off after %v: %v", kind, say, took, err)
						}
					})
				}
			}
		}
		slow.Wait()
	})
	if worst > slowest {
		t.Errorf("a GET took %v meanwhile", worst)
	}
	// The daemon's limit of connections is 1,024 a socket.
	var open []net.Conn
	for range 1100 {
		open = append(open, must[net.Conn](t)(dials["unix"]()))
	}
	var turned atomic.Int64
	var all sync.WaitGroup
	for _, c := range open {
		check(t, c.SetReadDeadline(time.Now().Add(time.Second)))
		all.Go(func() {
			if _, err := c.Read(make([]byte, 1)); errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) {
				turned.Add(1)
			}
		})
	}
	all.Wait()
	for _, c := range open {
		c.Close()
	}
	if n := turned.Load(); n < 70 || n > 120 {
		t.Errorf("%d of 1,100 connections were turned away at once, 1,024 are allowed", n)
	}
	f.well()
	if lost := s.lost(); lost != 0 {
		t.Errorf("%d of %d packets were lost", lost, s.sent)
	}
}
