// Package client speaks the daemon's API: typed calls over a unix socket, or
// over HTTPS with a token. Whatever the daemon refuses is an error that
// errors.As finds an [api.Problem] in.
package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"sfc/ctrl/api"
)

// DefaultServer is where the daemon listens unless told otherwise.
const DefaultServer = "unix:///run/sfc/sfcd.sock"

// maxAnswer bounds what is read of one answer that is not a stream, in bytes: a
// page of 1,000 objects of 1 MiB is beyond it, one of 500 ordinary chains far
// below.
const maxAnswer = 256 << 20

// Options say how to reach a daemon. The zero value is enough for a unix socket.
type Options struct {
	// Token is the bearer token. Required over HTTPS.
	Token string
	// CAs is the certificate authority that the daemon's certificate is checked
	// with, PEM. Empty: the system's.
	CAs []byte
	// Timeout bounds calls that are not streams, uploads excepted. Default 30 s.
	Timeout time.Duration
	// UserAgent names the program in logs. Default sfc-client.
	UserAgent string
}

// Client makes calls. It is safe for concurrent use.
type Client struct {
	base *url.URL
	http *http.Client
	opts Options
}

// FromEnvironment makes a client of a server's address, else of what SFC_SERVER
// says, else of DefaultServer. SFC_TOKEN and SFC_CA_FILE say the rest, unless
// opts do.
func FromEnvironment(server string, getenv func(string) string, opts Options) (*Client, error) {
	if server == "" {
		server = getenv("SFC_SERVER")
	}
	if server == "" {
		server = DefaultServer
	}
	if opts.Token == "" {
		opts.Token = getenv("SFC_TOKEN")
	}
	if file := getenv("SFC_CA_FILE"); file != "" && opts.CAs == nil {
		pem, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("read SFC_CA_FILE: %w", err)
		}
		opts.CAs = pem
	}
	return New(server, opts)
}

// New makes a client of a server at unix:///PATH or https://HOST:PORT. It does
// not connect yet.
func New(server string, opts Options) (*Client, error) {
	if opts.Timeout == 0 {
		opts.Timeout = 30 * time.Second
	}
	if opts.UserAgent == "" {
		opts.UserAgent = "sfc-client"
	}
	u, err := url.Parse(server)
	if err != nil {
		return nil, fmt.Errorf("server %q: %w", server, err)
	}
	transport := &http.Transport{
		ResponseHeaderTimeout: 0, // a trace takes as long as it takes
		MaxIdleConnsPerHost:   16,
		IdleConnTimeout:       90 * time.Second,
		TLSHandshakeTimeout:   10 * time.Second,
	}
	dialer := &net.Dialer{Timeout: 10 * time.Second}
	switch {
	case u.Scheme == "unix" && u.Host == "" && strings.HasPrefix(u.Path, "/"):
		path := u.Path
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", path)
		}
		u = &url.URL{Scheme: "http", Host: "sfcd"}
	case u.Scheme == "https" && u.Host != "" && strings.Trim(u.Path, "/") == "":
		if opts.Token == "" {
			return nil, fmt.Errorf("server %s: a token is needed: set SFC_TOKEN", server)
		}
		config := &tls.Config{MinVersion: tls.VersionTLS13}
		if opts.CAs != nil {
			config.RootCAs = x509.NewCertPool()
			if !config.RootCAs.AppendCertsFromPEM(opts.CAs) {
				return nil, fmt.Errorf("server %s: there is no certificate in the CA's PEM", server)
			}
		}
		transport.DialContext, transport.TLSClientConfig, transport.ForceAttemptHTTP2 = dialer.DialContext, config, true
		u = &url.URL{Scheme: "https", Host: u.Host}
	default:
		return nil, fmt.Errorf("server %q: unix:///PATH or https://HOST:PORT is expected", server)
	}
	refuse := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &Client{base: u, http: &http.Client{Transport: transport, CheckRedirect: refuse}, opts: opts}, nil
}

// Close gives idle connections back.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// call is a request on its way.
type call struct {
	method string
	path   []string // parts, which are escaped
	query  url.Values
	header http.Header
	body   io.Reader
	size   int64 // of body, -1 for unknown
}

// send makes a request and turns whatever is no success into an error. The
// caller closes the answer's body.
func (c *Client) send(ctx context.Context, k call) (*http.Response, error) {
	u := *c.base
	escaped := make([]string, len(k.path))
	for i, p := range k.path {
		if p == "" || p == "." || p == ".." {
			return nil, fmt.Errorf("%s /%s: %q is no name", k.method, strings.Join(k.path, "/"), p)
		}
		escaped[i] = url.PathEscape(p)
	}
	u.Path, u.RawPath = "/"+strings.Join(k.path, "/"), "/"+strings.Join(escaped, "/")
	u.RawQuery = k.query.Encode()
	req, err := http.NewRequestWithContext(ctx, k.method, u.String(), k.body)
	if err != nil {
		return nil, err
	}
	if k.body != nil && k.size != 0 {
		req.ContentLength = k.size
	}
	for name, values := range k.header {
		req.Header[name] = values
	}
	req.Header.Set("User-Agent", c.opts.UserAgent)
	if c.opts.Token != "" {
		req.Header.Set("Authorization", "Bearer "+c.opts.Token)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", k.method, u.Path, explain(err))
	}
	if resp.StatusCode/100 != 2 {
		defer resp.Body.Close()
		return nil, fmt.Errorf("%s %s: %w", k.method, u.Path, problem(resp))
	}
	return resp, nil
}

// explain adds the cure to what keeps a client from the daemon's socket.
func explain(err error) error {
	switch {
	case errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("%w: is the daemon running? Name its socket by --server or SFC_SERVER", err)
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("%w: be root or in the socket's group", err)
	}
	return err
}

// problem reads what a failed request's answer says.
func problem(resp *http.Response) error {
	data, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return fmt.Errorf("%s: %w", resp.Status, err)
	}
	media, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	p := &api.Problem{}
	if media != api.ProblemType || json.Unmarshal(data, p) != nil || p.Status == 0 {
		p = api.NewProblem(resp.StatusCode, "", "%.200q", data)
	}
	return p
}

// do makes a call with JSON both ways; in and out may be nil.
func (c *Client) do(ctx context.Context, k call, in, out any) error {
	ctx, cancel := context.WithTimeout(ctx, c.opts.Timeout)
	defer cancel()
	return c.doWithin(ctx, k, in, out)
}

// doWithin is do without the client's time-out.
func (c *Client) doWithin(ctx context.Context, k call, in, out any) error {
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return err
		}
		k.body, k.size = bytes.NewReader(data), int64(len(data))
		if k.header == nil {
			k.header = http.Header{}
		}
		k.header.Set("Content-Type", string(api.BodyJSON))
	}
	resp, err := c.send(ctx, k)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if out == nil {
		return nil
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(out); err != nil {
		return fmt.Errorf("%s /%s: read the answer: %w", k.method, strings.Join(k.path, "/"), err)
	}
	return nil
}
