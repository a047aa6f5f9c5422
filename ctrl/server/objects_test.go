package server

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"sfc/ctrl/api"
	"sfc/ctrl/client"
)

// The life of an object: made, made again, changed, contradicted, deleted.
func TestObject(t *testing.T) {
	w := start(t, t.TempDir(), nil)
	w.tenant(t, "acme", api.TenantSpec{Share: 500, Memory: 64 << 20})
	chains := w.root.Chains("acme")
	made := must[*api.Chain](t)(chains.Create(t.Context(), chain("edge")))
	m := made.Metadata
	if m.Tenant != "acme" || m.UID == "" || m.Generation != 1 || m.ResourceVersion == "" || m.CreatedAt.IsZero() || made.Kind != "Chain" || made.APIVersion != api.Version {
		t.Fatalf("made: %+v", made)
	}
	if made.Spec.Functions[0].Name != "firewall" {
		t.Errorf("the function is named %q after its module", made.Spec.Functions[0].Name)
	}
	again := must[*api.Chain](t)(chains.Create(t.Context(), chain("edge")))
	if again.Metadata != m {
		t.Errorf("made again: %+v, want %+v", again.Metadata, m)
	}
	other := chain("edge")
	other.Spec.Priority = 5
	_, err := chains.Create(t.Context(), other)
	if p := is(t, err, 409, api.ReasonExists); p.ResourceVersion != m.ResourceVersion {
		t.Errorf("the problem tells version %q, want %q", p.ResourceVersion, m.ResourceVersion)
	}

	changed := must[*api.Chain](t)(chains.Put(t.Context(), "edge", other))
	if c := changed.Metadata; c.UID != m.UID || c.Generation != 2 || c.ResourceVersion == m.ResourceVersion || !c.CreatedAt.Equal(m.CreatedAt) {
		t.Errorf("changed: %+v", c)
	}
	same := must[*api.Chain](t)(chains.Put(t.Context(), "edge", other))
	if same.Metadata.ResourceVersion != changed.Metadata.ResourceVersion {
		t.Errorf("the same again is version %s, want %s", same.Metadata.ResourceVersion, changed.Metadata.ResourceVersion)
	}
	other.Metadata.ResourceVersion, other.Spec.Priority = m.ResourceVersion, 6
	_, err = chains.Put(t.Context(), "edge", other)
	if p := is(t, err, 409, api.ReasonConflict); p.ResourceVersion != changed.Metadata.ResourceVersion {
		t.Errorf("the problem tells version %q, want %q", p.ResourceVersion, changed.Metadata.ResourceVersion)
	}
	is(t, chains.Delete(t.Context(), "edge", m.ResourceVersion), 409, api.ReasonConflict)
	if err := chains.Delete(t.Context(), "edge", changed.Metadata.ResourceVersion); err != nil {
		t.Fatal(err)
	}
	_, err = chains.Get(t.Context(), "edge")
	is(t, err, 404, api.ReasonNotFound)
	is(t, chains.Delete(t.Context(), "edge", ""), 404, api.ReasonNotFound)
	other.Metadata.ResourceVersion = changed.Metadata.ResourceVersion
	_, err = chains.Put(t.Context(), "edge", other)
	is(t, err, 404, api.ReasonNotFound)
}

// What is the daemon's to say cannot be said by clients; what was read can be sent
// back as it is.
func TestStatusIsTheDaemons(t *testing.T) {
	w := start(t, t.TempDir(), nil)
	forged := &api.Port{Metadata: api.Metadata{Name: "in", UID: "mine", Generation: 7}, Status: api.PortStatus{Up: true}}
	made := must[*api.Port](t)(w.root.Ports().Create(t.Context(), forged))
	got := must[*api.Port](t)(w.root.Ports().Get(t.Context(), "in"))
	if made.Status.Up || got.Status.Up || got.Metadata.UID == "mine" || got.Metadata.Generation != 1 {
		t.Errorf("made %+v, read %+v", made, got)
	}
	w.tenant(t, "acme", api.TenantSpec{})
	must[*api.Chain](t)(w.root.Chains("acme").Create(t.Context(), chain("edge")))
	w.observe(t, "edge", api.ChainStatus{Active: true, Conditions: api.Conditions{{Type: api.Ready, Status: api.True}}})
	c := must[*api.Chain](t)(w.root.Chains("acme").Get(t.Context(), "edge"))
	if !c.Status.Active || !c.Status.Conditions.IsTrue(api.Ready) {
		t.Fatalf("%+v", c.Status)
	}
	c.Spec.Priority, c.Status.Active = 3, false
	changed := must[*api.Chain](t)(w.root.Chains("acme").Put(t.Context(), "edge", c))
	if !changed.Status.Active || changed.Spec.Priority != 3 {
		t.Errorf("%+v", changed)
	}
	// A chain that is made anew does not have the state of the old one.
	if err := w.root.Chains("acme").Delete(t.Context(), "edge", ""); err != nil {
		t.Fatal(err)
	}
	if c = must[*api.Chain](t)(w.root.Chains("acme").Create(t.Context(), chain("edge"))); c.Status.Active {
		t.Errorf("%+v", c.Status)
	}
}

// What is wrong is told by field.
func TestFieldErrors(t *testing.T) {
	w := start(t, t.TempDir(), nil)
	w.tenant(t, "acme", api.TenantSpec{})
	bad := chain("edge")
	bad.Spec.Functions = append(bad.Spec.Functions, api.ChainFunction{Name: "x", Module: "firewall@prod", Fault: "maybe"})
	bad.Spec.Match[0].Src = "10.0.0.1/8"
	_, err := w.root.Chains("acme").Create(t.Context(), bad)
	p := is(t, err, 422, api.ReasonInvalid)
	var pointers []string
	for _, e := range p.Errors {
		pointers = append(pointers, e.Pointer)
	}
	if want := []string{"/spec/functions/1/fault", "/spec/match/0/src"}; !slices.Equal(slices.Sorted(slices.Values(pointers)), want) {
		t.Errorf("pointers %q, want %q", pointers, want)
	}
	for body, want := range map[string]string{
		`{"metadata":{"name":"x"},"spec":{"memory":"64Qi"}}`:                        "spec.memory: \"64Qi\" is no amount of bytes",
		`{"metadata":{"name":"x"},"spec":{"memroy":"64Mi"}}`:                        "spec.memroy: there is no such field",
		`{"metadata":{"name":"x","name":"y"}}`:                                      "metadata.name: it is given twice",
		`{"metadata":{"name":"X"}}`:                                                 "metadata.name: \"X\" is no name",
		`{"metadata":{"name":"system"}}`:                                            "metadata.name: system is the daemon's own",
		`{"metadata":[]}`:                                                           "metadata: an object is expected",
		`{"metadata":{"name":7}}`:                                                   "metadata.name: it is number: text is expected",
		`{"metadata":{"name":"x"}`:                                                  "unexpected end of JSON input",
		`{"kind":"Chain","metadata":{"name":"x"}}`:                                  "kind: \"Chain\" does not belong here",
		`{"metadata":{"name":"x"}} {}`:                                              "after top-level value",
		`{"metadata":{"name":"x","tenant":"y"},"spec":{}}`:                          "metadata.tenant",
		`{"metadata":{"name":"x"},"spec":{"logLines":"1000001"}}`:                   "spec.logLines: 1000001 is more than 1000000 lines a second",
		`{"metadata":{"name":"x"},"spec":{"chains":"-1"}}`:                          "-1",
		`{"metadata":{"name":"x"},"spec":{"share":"101%"}}`:                         "spec.share: \"101%\" is more than all",
		`{"metadata":{"name":"x"},"spec":{"flows":-1}}`:                             "spec.flows: \"-1\" is no number",
		`{"apiVersion":"v2","metadata":{"name":"` + strings.Repeat("a", 64) + `"}}`: "\"v2\" is not served",
	} {
		status, data, _ := w.raw(t, http.MethodPost, "/v1/tenants", "application/json", strings.NewReader(body))
		if status/100 != 4 || !strings.Contains(strings.ReplaceAll(string(data), `\"`, `"`), want) {
			t.Errorf("%s: %d %s, want %s", body, status, data, want)
		}
	}
}

// Pages follow each other whatever happens between them.
func TestPages(t *testing.T) {
	w := start(t, t.TempDir(), nil)
	w.tenant(t, "acme", api.TenantSpec{})
	chains := w.root.Chains("acme")
	for i := range 10 {
		must[*api.Chain](t)(chains.Create(t.Context(), chain(fmt.Sprintf("c%d", i))))
	}
	var names []string
	o := client.ListOptions{Limit: 3}
	first := ""
	for page := 0; ; page++ {
		list := must[*api.List[api.Chain]](t)(chains.List(t.Context(), o))
		for _, c := range list.Items {
			names = append(names, c.Metadata.Name)
		}
		if page == 0 {
			first = list.Metadata.ResourceVersion
			if err := chains.Delete(t.Context(), "c2", ""); err != nil {
				t.Fatal(err)
			}
			must[*api.Chain](t)(chains.Create(t.Context(), chain("c00")))
			must[*api.Chain](t)(chains.Create(t.Context(), chain("c55")))
		}
		if list.Metadata.ResourceVersion != first {
			t.Errorf("page %d is of version %s, want %s", page, list.Metadata.ResourceVersion, first)
		}
		if o.Continue = list.Metadata.Continue; o.Continue == "" {
			break
		}
	}
	if want := "c0 c1 c2 c3 c4 c5 c55 c6 c7 c8 c9"; strings.Join(names, " ") != want {
		t.Errorf("%q, want %q", strings.Join(names, " "), want)
	}
	// The rest is told by a watch from there.
	told := map[string]string{}
	for ev, err := range chains.Watch(t.Context(), first) {
		if err != nil {
			t.Fatal(err)
		}
		if ev.Object != nil {
			told[ev.Object.Metadata.Name] = ev.Type
		}
		if len(told) == 3 {
			break
		}
	}
	if told["c2"] != api.Deleted || told["c00"] != api.Added || told["c55"] != api.Added {
		t.Errorf("the watch told %v", told)
	}
	for _, bad := range []string{"x", "1.x", "1.", "18446744073709551616.e30"} {
		_, err := chains.List(t.Context(), client.ListOptions{Continue: bad})
		if p := (&api.Problem{}); !asProblemOf(err, &p) || p.Status/100 != 4 {
			t.Errorf("continue %q: %v", bad, err)
		}
	}
}

// A tenant goes with all it has, and a later one of its name knows nothing of it.
func TestTenantRemoved(t *testing.T) {
	w := start(t, t.TempDir(), nil)
	w.tenant(t, "acme", api.TenantSpec{ModuleBytes: 1 << 20})
	secret := w.token(t, "acme", "ci", api.Admin)
	must[*api.Chain](t)(w.root.Chains("acme").Create(t.Context(), chain("edge")))
	must[*api.Key](t)(w.root.Keys("acme").Create(t.Context(), &api.Key{Metadata: api.Metadata{Name: "k"}, Spec: api.KeySpec{PublicKey: base64.StdEncoding.EncodeToString(make([]byte, 32))}}))
	got := must[*api.Tenant](t)(w.root.Tenants().Get(t.Context(), "acme"))
	if got.Status.Chains != 1 {
		t.Errorf("status %+v", got.Status)
	}
	is(t, w.root.Tenants().Delete(t.Context(), "acme", ""), 409, api.ReasonInUse)
	if err := w.root.Chains("acme").Delete(t.Context(), "edge", ""); err != nil {
		t.Fatal(err)
	}
	if err := w.root.Tenants().Delete(t.Context(), "acme", ""); err != nil {
		t.Fatal(err)
	}
	_, err := w.root.Keys("acme").List(t.Context(), client.ListOptions{})
	is(t, err, 404, api.ReasonNotFound)
	w.tenant(t, "acme", api.TenantSpec{})
	if keys := must[*api.List[api.Key]](t)(w.root.Keys("acme").All(t.Context())); len(keys.Items) != 0 {
		t.Errorf("the new tenant has %d keys", len(keys.Items))
	}
	_, err = w.as(t, secret).Identity(t.Context())
	is(t, err, 401, api.ReasonUnauthorized)
}

// Tokens end, are rotated, and their secrets are told once and not stored.
func TestTokens(t *testing.T) {
	w := start(t, t.TempDir(), nil)
	w.tenant(t, "acme", api.TenantSpec{})
	tokens := w.root.Tokens("acme")
	ask := &api.Token{Metadata: api.Metadata{Name: "ci"}, Spec: api.TokenSpec{Role: api.Viewer, ExpiresAt: time.Now().Add(time.Hour).UTC().Truncate(time.Second)}}
	made := must[*api.Token](t)(tokens.Create(t.Context(), ask))
	c := w.as(t, made.Secret)
	who := must[*api.Identity](t)(c.Identity(t.Context()))
	if who.Name != "token:acme/ci" || who.Tenant != "acme" || who.Role != api.Viewer || who.Server != "1.2.3" {
		t.Errorf("%+v", who)
	}
	again := must[*api.Token](t)(tokens.Create(t.Context(), ask))
	got := must[*api.Token](t)(tokens.Get(t.Context(), "ci"))
	if again.Secret != "" || got.Secret != "" {
		t.Error("the secret is told again")
	}
	rotated := must[*api.Token](t)(w.root.RotateToken(t.Context(), "acme", "ci", api.Rotation{OverlapSeconds: 60}))
	for _, secret := range []string{made.Secret, rotated.Secret} {
		must[*api.Identity](t)(w.as(t, secret).Identity(t.Context()))
	}
	if rotated.Status.PreviousUntil.IsZero() || rotated.Status.RotatedAt.IsZero() {
		t.Errorf("status %+v", rotated.Status)
	}
	last := must[*api.Token](t)(w.root.RotateToken(t.Context(), "acme", "ci", api.Rotation{}))
	for _, secret := range []string{made.Secret, rotated.Secret, last.Secret + "x", last.Secret[:len(last.Secret)-1], strings.Replace(last.Secret, "acme", "", 1)} {
		_, err := w.as(t, secret).Identity(t.Context())
		is(t, err, 401, api.ReasonUnauthorized)
	}
	must[*api.Identity](t)(w.as(t, last.Secret).Identity(t.Context()))

	for _, at := range []time.Time{time.Now().Add(-time.Second), time.Now().Add(400 * 24 * time.Hour)} {
		_, err := tokens.Create(t.Context(), &api.Token{Metadata: api.Metadata{Name: "late"}, Spec: api.TokenSpec{Role: api.Viewer, ExpiresAt: at}})
		is(t, err, 422, api.ReasonInvalid)
	}
	short := w.token(t, "acme", "short", api.Viewer)
	must[*api.Identity](t)(w.as(t, short).Identity(t.Context()))
	w.expire(t, "acme", "short")
	_, err := w.as(t, short).Identity(t.Context())
	is(t, err, 401, api.ReasonUnauthorized)
	if got := must[*api.Token](t)(tokens.Get(t.Context(), "short")); !got.Status.Expired {
		t.Error("it is not shown to have ended")
	}
	bucket := must[[]string](t)(w.rawTokens())
	for _, value := range bucket {
		if i := strings.LastIndexByte(last.Secret, '.'); strings.Contains(value, last.Secret[i+1:]) {
			t.Error("the secret is stored")
		}
	}
	if len(bucket) != 2 {
		t.Errorf("%d tokens are stored", len(bucket))
	}
}

// A collection has a grace of a day unless it says otherwise; one that makes no
// sense is refused by its field.
func TestCollect(t *testing.T) {
	w := start(t, t.TempDir(), nil)
	w.tenant(t, "acme", api.TenantSpec{})
	for body, want := range map[string]int64{`{}`: 86400, `{"graceSeconds":0}`: 0, `{"graceSeconds":60,"dryRun":true}`: 60} {
		status, data, _ := w.raw(t, http.MethodPost, "/v1/tenants/acme/functions/collect", string(api.BodyJSON), strings.NewReader(body))
		var got api.Collected
		if err := json.Unmarshal(data, &got); err != nil || status != 200 || got.Bytes != want || got.DryRun != strings.Contains(body, "dryRun") {
			t.Errorf("%s: %d %s %v", body, status, data, err)
		}
	}
	for _, body := range []string{`{"graceSeconds":-1}`, `{"graceSeconds":31622401}`, `{"grace":1}`} {
		status, data, _ := w.raw(t, http.MethodPost, "/v1/tenants/acme/functions/collect", string(api.BodyJSON), strings.NewReader(body))
		if status != 422 || !strings.Contains(string(data), `"field":"grace`) {
			t.Errorf("%s: %d %s", body, status, data)
		}
	}
	_, err := w.root.Collect(t.Context(), "ghost", time.Hour, true)
	is(t, err, 404, api.ReasonNotFound)
}
