package server

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"sfc/ctrl/api"
)

// caller is somebody who knocks.
type caller struct {
	name   string
	secret string // "" for no token
	known  bool
	tenant string // "" for the host
	role   api.Role
}

// may says what a caller gets for a route of the tenant acme: 0 for success.
func (c *caller) may(r *api.Route) int {
	switch {
	case r.Scope == api.Public:
		return 0
	case !c.known:
		return http.StatusUnauthorized
	case r.Scope == api.OfTenant && c.tenant != "" && c.tenant != "acme":
		return http.StatusNotFound
	case r.Scope == api.OfHost && c.tenant != "", !c.role.Includes(r.Role):
		return http.StatusForbidden
	}
	return 0
}

// callers are all sorts of them, the last the mightiest.
func (w *world) callers(t *testing.T) (list []caller) {
	expired := w.token(t, "acme", "past", api.Admin)
	w.expire(t, "acme", "past")
	foreign := w.token(t, "acme", "gone", api.Admin)
	if err := w.root.Tokens("acme").Delete(t.Context(), "gone", ""); err != nil {
		t.Fatal(err)
	}
	list = []caller{
		{name: "nobody"}, {name: "garbage", secret: "sfc1.acme.ci.AAAA"}, {name: "empty", secret: "..."},
		{name: "expired", secret: expired}, {name: "deleted", secret: foreign},
	}
	for _, tenant := range []string{"acme", "other", ""} {
		for _, role := range []api.Role{api.Viewer, api.Deployer, api.Admin} {
			list = append(list, caller{name: fmt.Sprintf("%s %s", tenant, role), secret: w.token(t, tenant, "m-"+string(role), role), known: true, tenant: tenant, role: role})
		}
	}
	return list
}

const module = "\x00asm module"

// seed makes what routes are about, so that each can succeed.
func (w *world) seed(t *testing.T) {
	t.Helper()
	for _, name := range []string{"acme", "spare"} {
		must[*api.Tenant](t)(w.root.Tenants().Put(t.Context(), name, &api.Tenant{}))
	}
	must[*api.Chain](t)(w.root.Chains("acme").Put(t.Context(), "edge", chain("")))
	must[*api.Key](t)(w.root.Keys("acme").Put(t.Context(), "k", key("")))
	must[*api.Port](t)(w.root.Ports().Put(t.Context(), "in", &api.Port{}))
	for _, tenant := range []string{"", "acme"} {
		must[*api.Token](t)(w.root.Tokens(tenant).Put(t.Context(), "ci", &api.Token{Spec: api.TokenSpec{Role: api.Viewer}}))
	}
	must[*api.Function](t)(w.root.Upload(t.Context(), "acme", upload1("1.0.0")))
	must[*api.Alias](t)(w.root.PutAlias(t.Context(), "acme", "firewall", "prod", api.AliasSpec{Version: "1.0.0"}, ""))
}

func key(name string) *api.Key {
	return &api.Key{Metadata: api.Metadata{Name: name}, Spec: api.KeySpec{PublicKey: base64.StdEncoding.EncodeToString(make([]byte, 32))}}
}

// bodyOf is a body that a route takes, and path what its path is with names of
// things that are there, or would be new.
func bodyOf(t *testing.T, r *api.Route) (path string, body []byte, media string) {
	t.Helper()
	path = strings.NewReplacer("{tenant}", "acme", "{chain}", "edge", "{key}", "k", "{token}", "ci", "{port}", "in",
		"{function}", "firewall", "{version}", "1.0.0", "{alias}", "prod").Replace(r.Path)
	if r.Operation == "deleteTenant" {
		path = "/v1/tenants/spare"
	}
	if r.RequestBody == "" {
		return path, nil, ""
	}
	if r.RequestBody == api.BodyWasm {
		return path, []byte(module), string(api.BodyWasm)
	}
	named := strings.HasPrefix(r.Operation, "create")
	name := map[bool]string{true: "new", false: ""}[named]
	var v any
	switch kind := strings.TrimPrefix(strings.TrimPrefix(r.Operation, "create"), "put"); kind {
	case "Tenant":
		v = &api.Tenant{Metadata: api.Metadata{Name: name}, Spec: api.TenantSpec{Share: 1}}
	case "HostToken", "Token":
		v = &api.Token{Metadata: api.Metadata{Name: name}, Spec: api.TokenSpec{Role: api.Viewer}}
	case "Port":
		v = &api.Port{Metadata: api.Metadata{Name: name}, Spec: api.PortSpec{Mode: api.ModeRouted}}
	case "Key":
		v = key(name)
	case "Chain":
		v = chain(name)
	case "Alias":
		v = &api.Alias{Spec: api.AliasSpec{Version: "1.0.0", Canary: &api.Canary{Version: "1.1.0", Percent: 10}}}
	case "captureChain":
		v = api.CaptureRequest{Count: 1}
	default:
		if r.Request == nil {
			t.Fatalf("the test has no body for %s", r.Operation)
		}
		v = struct{}{}
	}
	return path, must[[]byte](t)(json.Marshal(v)), string(api.BodyJSON)
}

// send makes a request over TLS and returns its answer.
func send(t *testing.T, c *http.Client, base, secret, method, path, media string, body []byte) (int, http.Header, []byte) {
	t.Helper()
	req := must[*http.Request](t)(http.NewRequestWithContext(t.Context(), method, base+path, bytes.NewReader(body)))
	if secret != "" {
		req.Header.Set("Authorization", "Bearer "+secret)
	}
	if media != "" {
		req.Header.Set("Content-Type", media)
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	return resp.StatusCode, resp.Header, data
}

// Every route, for everybody: who may gets what the document promises, who may
// not is refused, and who is of another tenant cannot tell this one from one
// that does not exist.
func TestAuthorization(t *testing.T) {
	w := start(t, t.TempDir(), nil)
	w.tenant(t, "acme", api.TenantSpec{})
	w.tenant(t, "other", api.TenantSpec{})
	transport := &http.Transport{TLSClientConfig: w.clientTLS(), ForceAttemptHTTP2: true}
	defer transport.CloseIdleConnections()
	c := &http.Client{Transport: transport}
	base := "https://" + w.address
	promised := readPromises(t)
	callers := w.callers(t)
	succeeded := map[string]int{}
	w.seed(t)
	for _, r := range api.Routes() {
		path, body, media := bodyOf(t, &r)
		for _, who := range callers {
			status, header, data := send(t, c, base, who.secret, r.Method, path, media, body)
			title := fmt.Sprintf("%s for %q", r.Operation, who.name)
			if want := who.may(&r); want != 0 {
				if status != want {
					t.Errorf("%s: %d %.300s, want %d", title, status, data, want)
				}
				promised.check(t, title, &r, status, header, data)
				if want == http.StatusNotFound {
					ghost := strings.Replace(path, "/acme", "/ghost", 1)
					gstatus, gheader, gdata := send(t, c, base, who.secret, r.Method, ghost, media, body)
					if gstatus != status || anonymous(t, gdata) != anonymous(t, data) || len(gheader) != len(header) {
						t.Errorf("%s: %s of acme, %s of a tenant that is not there", title, data, gdata)
					}
				}
				continue
			}
			if status/100 != 2 {
				t.Errorf("%s: %d %.300s", title, status, data)
			}
			promised.check(t, title, &r, status, header, data)
			if succeeded[r.Operation]++; r.Method != http.MethodGet {
				w.seed(t)
			}
		}
	}
	for _, r := range api.Routes() {
		if succeeded[r.Operation] == 0 {
			t.Errorf("%s succeeded for nobody", r.Operation)
		}
	}
}

// anonymous is a problem without what may differ between two requests.
func anonymous(t *testing.T, data []byte) string {
	t.Helper()
	var p api.Problem
	if err := json.Unmarshal(data, &p); err != nil || p.RequestID == "" || p.Instance == "" {
		t.Errorf("%s: %v", data, err)
	}
	p.RequestID, p.Instance = "", ""
	return fmt.Sprintf("%+v", p)
}

// A token is all that counts where one is sent, also by root on the unix socket.
func TestTokenBeforePeer(t *testing.T) {
	w := start(t, t.TempDir(), nil)
	w.tenant(t, "acme", api.TenantSpec{})
	c := w.onSocket(t, w.token(t, "acme", "v", api.Viewer))
	if who := must[*api.Identity](t)(c.Identity(t.Context())); who.Tenant != "acme" || who.Role != api.Viewer {
		t.Errorf("%+v", who)
	}
	_, err := w.onSocket(t, "sfc1.acme.v.AAAA").Identity(t.Context())
	is(t, err, 401, api.ReasonUnauthorized)
	if who := must[*api.Identity](t)(w.root.Identity(t.Context())); who.Role != api.Admin || who.Name != fmt.Sprintf("unix:uid=%d", w.uid) {
		t.Errorf("%+v", who)
	}
}

// What no route is for is told as a problem, too.
func TestUnknownRoutes(t *testing.T) {
	w := start(t, t.TempDir(), nil)
	for path, want := range map[string]int{"/": 404, "/v2/tenants": 404, "/v1/tenants/a/b/c": 404, "/metrics/": 404} {
		status, data, _ := w.raw(t, http.MethodGet, path, "", nil)
		if status != want || !json.Valid(data) {
			t.Errorf("%s: %d %s", path, status, data)
		}
	}
	status, data, header := w.raw(t, http.MethodPatch, "/v1/tenants", "", nil)
	if status != 405 || !json.Valid(data) || !strings.Contains(header.Get("Allow"), "POST") {
		t.Errorf("%d %s %v", status, data, header)
	}
}

// promises are what the OpenAPI document says of answers.
type promises struct {
	compiler *jsonschema.Compiler
	paths    map[string]map[string]struct {
		Responses map[string]struct {
			Ref     string `json:"$ref"`
			Content map[string]struct{ Schema map[string]any }
		}
		Watch map[string]string `json:"x-watch-event"`
	}
}

// readPromises reads the document; fields that it does not name are not allowed
// here.
func readPromises(t *testing.T) *promises {
	t.Helper()
	doc := must[any](t)(jsonschema.UnmarshalJSON(bytes.NewReader(api.OpenAPI)))
	for _, schema := range doc.(map[string]any)["components"].(map[string]any)["schemas"].(map[string]any) {
		if s := schema.(map[string]any); s["properties"] != nil {
			s["additionalProperties"] = false
		}
	}
	p := &promises{compiler: jsonschema.NewCompiler()}
	p.compiler.AssertFormat()
	if err := p.compiler.AddResource("openapi.json", doc); err != nil {
		t.Fatal(err)
	}
	var parts struct{ Paths any }
	parts.Paths = &p.paths
	if err := json.Unmarshal(api.OpenAPI, &parts); err != nil {
		t.Fatal(err)
	}
	return p
}

// check compares an answer with what is promised.
func (p *promises) check(t *testing.T, title string, r *api.Route, status int, header http.Header, data []byte) {
	t.Helper()
	media := header.Get("Content-Type")
	if status/100 != 2 {
		if media != api.ProblemType {
			t.Errorf("%s: a problem as %q", title, media)
		}
		p.validate(t, title, "#/components/schemas/Problem", data)
		return
	}
	said, ok := p.paths[r.Path][strings.ToLower(r.Method)].Responses[strconv.Itoa(status)]
	if !ok {
		t.Errorf("%s: status %d is not promised", title, status)
		return
	}
	if len(said.Content) == 0 {
		if len(data) > 0 {
			t.Errorf("%s: %d bytes, none are promised", title, len(data))
		}
		return
	}
	content, ok := said.Content[media]
	if !ok {
		t.Errorf("%s: %q is not promised", title, media)
		return
	}
	ref, ok := content.Schema["$ref"].(string)
	if !ok {
		return
	}
	if r.ResponseBody == api.BodyStream {
		for line := range bytes.Lines(data) {
			p.validate(t, title, ref, line)
		}
		return
	}
	p.validate(t, title, ref, data)
}

func (p *promises) validate(t *testing.T, title, ref string, data []byte) {
	t.Helper()
	schema, err := p.compiler.Compile("openapi.json" + ref)
	if err != nil {
		t.Fatal(err)
	}
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err == nil {
		err = schema.Validate(v)
	}
	if err != nil {
		t.Errorf("%s: %.300s: %v", title, data, err)
	}
}
