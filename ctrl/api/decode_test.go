package api

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

// kinds are all objects that clients send.
func kinds() []Object {
	return []Object{&Tenant{}, &Token{}, &Key{}, &Function{}, &Alias{}, &Port{}, &Chain{}}
}

func TestDecode(t *testing.T) {
	var c Chain
	errs := Decode([]byte(`{"metadata":{"name":"edge"},"spec":{"functions":[{"module":"f@1.0.0","config":{"a":[1]}}],"egress":"out",
		"match":[{"vlan":0,"protocol":6,"srcPorts":"1-2","dstPorts":53}],"return":{"functions":["f"]}}}`), &c)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	m := c.Spec.Match[0]
	if *m.VLAN != 0 || m.Protocol != "6" || m.SrcPorts != "1-2" || m.DstPorts != "53" || c.Spec.Return.Functions[0] != "f" || string(c.Spec.Functions[0].Config) != `{"a":[1]}` {
		t.Errorf("%+v", c.Spec)
	}
	doc := string(must[[]byte](t)(c.Document()))
	for _, part := range []string{`"protocol":6`, `"srcPorts":"1-2"`, `"dstPorts":53`, `"vlan":0`, `"apiVersion":"sfc/v1"`, `"return":{"functions":["f"]}`} {
		if !strings.Contains(doc, part) {
			t.Errorf("%s is not in %s", part, doc)
		}
	}
	for text, want := range map[string]string{
		`{"spec":{"match":[{},{"vlan":"x"}]}}`: "spec.match[1].vlan /spec/match/1/vlan",
		`{"spec":{"functions":[{"modul":1}]}}`: "spec.functions[0].modul /spec/functions/0/modul",
		`{"spec":{"functions":{}}}`:            "spec.functions /spec/functions",
		`{"spec":{"return":{"x":1}}}`:          "spec.return /spec/return",
		`{"spec":{"match":[{"protocol":-1}]}}`: "spec.match[0].protocol /spec/match/0/protocol",
		`{"spec":{"drain":"yes"}}`:             "spec.drain /spec/drain",
		`{"a~b":1}`:                            "a~b /a~0b",
		`[]`:                                   " ",
		`{`:                                    " ",
		`{"metadata":{"name":"a"},"Metadata":{"x":1}}`:  "Metadata /Metadata",
		`{"metadata":{"name":"a","createdAt":"never"}}`: "metadata.createdAt /metadata/createdAt",
	} {
		errs := Decode([]byte(text), &Chain{})
		if len(errs) != 1 || errs[0].Field+" "+errs[0].Pointer != want {
			t.Errorf("%s: %q, want %s", text, errs, want)
		}
	}
	many := `{"spec":{"match":[` + strings.TrimSuffix(strings.Repeat(`{"x":1},`, 100), ",") + `]}}`
	if errs := Decode([]byte(many), &Chain{}); len(errs) != maxFieldErrors {
		t.Errorf("%d errors are told", len(errs))
	}
}

// Whatever is sent is refused or understood: what was understood is written as
// something that is understood in the same way.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		`{"metadata":{"name":"a"},"spec":{"share":"50%","memory":"64Mi"}}`,
		`{"metadata":{"name":"a"},"spec":{"role":"admin","expiresAt":"2030-01-01T00:00:00Z"}}`,
		`{"metadata":{"name":"a"},"spec":{"functions":[{"module":"f@1.0.0"}],"return":"mirrored","match":[{"protocol":"tcp","dstPorts":80}]}}`,
		`{"metadata":{"name":"a"},"spec":{"version":"1.0.0","canary":{"version":"1.1.0","percent":10}}}`,
		`{"spec":{"tenants":["a"],"pciAddress":"0000:3b:00.0"}}`, `[[[[`, `{"a":{"a":{"a":{}}}}`, `null`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, o := range kinds() {
			if len(Decode(data, o)) > 0 {
				continue
			}
			valid := len(o.Validate()) == 0
			text, err := json.Marshal(o)
			if err != nil {
				t.Fatalf("%T of %q cannot be written: %v", o, data, err)
			}
			again := reflect.New(reflect.TypeOf(o).Elem()).Interface().(Object)
			if errs := Decode(text, again); len(errs) > 0 {
				t.Fatalf("%T of %q is written as %s: %v", o, data, text, errs)
			}
			if (len(again.Validate()) == 0) != valid {
				t.Errorf("%T of %q: valid %v, written as %s", o, data, valid, text)
			}
			if c, ok := o.(*Chain); ok {
				if doc, err := c.Document(); err != nil || !json.Valid(doc) {
					t.Errorf("the document of %q: %s, err %v", data, doc, err)
				}
			}
		}
	})
}

func TestValidate(t *testing.T) {
	good := map[string]Object{
		`{"metadata":{"name":"acme"},"spec":{"share":"50%"}}`:                                      &Tenant{},
		`{"metadata":{"name":"a"},"spec":{"interface":"eth0.5","peer":"b","unmatched":"forward"}}`: &Port{},
		`{"metadata":{"name":"a"},"spec":{"pciAddress":"0000:3b:00.0"}}`:                           &Port{},
		`{"metadata":{"name":"prod"},"spec":{"function":"f","version":"1.0.0-rc.1+b"}}`:            &Alias{},
	}
	for text, o := range good {
		if errs := append(Decode([]byte(text), o), o.Validate()...); len(errs) > 0 {
			t.Errorf("%s: %v", text, errs)
		}
	}
	bad := []struct {
		text, field string
		o           Object
	}{
		{`{"metadata":{"name":"a"},"spec":{"role":"root"}}`, "spec.role", &Token{}},
		{`{"metadata":{"name":"a"},"spec":{"publicKey":"AAAA"}}`, "spec.publicKey", &Key{}},
		{`{"metadata":{"name":"a"},"spec":{"interface":"../x"}}`, "spec.interface", &Port{}},
		{`{"metadata":{"name":"a"},"spec":{"interface":"x","pciAddress":"0000:3b:00.0"}}`, "spec.pciAddress", &Port{}},
		{`{"metadata":{"name":"a"},"spec":{"pciAddress":"3b:00.0"}}`, "spec.pciAddress", &Port{}},
		{`{"metadata":{"name":"a"},"spec":{"peer":"a"}}`, "spec.peer", &Port{}},
		{`{"metadata":{"name":"a"},"spec":{"unmatched":"forward"}}`, "spec.peer", &Port{}},
		{`{"metadata":{"name":"a"},"spec":{"unmatched":"drop","mode":"routed"}}`, "spec.unmatched", &Port{}},
		{`{"metadata":{"name":"a"},"spec":{"mode":"bridge"}}`, "spec.mode", &Port{}},
		{`{"metadata":{"name":"a"},"spec":{"queues":-1}}`, "spec.queues", &Port{}},
		{`{"metadata":{"name":"a"},"spec":{"tenants":["A"]}}`, "spec.tenants[0]", &Port{}},
		{`{"metadata":{"name":"a"},"spec":{"functions":[{"module":"f"}]}}`, "spec.functions[0].module", &Chain{}},
		{`{"metadata":{"name":"a"},"spec":{"functions":[{"module":"sha256:00"}]}}`, "spec.functions[0].module", &Chain{}},
		{`{"metadata":{"name":"a"},"spec":{"function":"f","version":"1.0"}}`, "spec.version", &Alias{}},
		{`{"metadata":{"name":"a"},"spec":{"function":"f","version":"1.0.0","canary":{"version":"1.0.0","percent":5}}}`, "spec.canary.version", &Alias{}},
		{`{"metadata":{"name":"a"},"spec":{"function":"f","version":"1.0.0","canary":{"version":"1.1.0","percent":100}}}`, "spec.canary.percent", &Alias{}},
		{`{"metadata":{"name":"a-"},"spec":{}}`, "metadata.name", &Tenant{}},
	}
	for _, tt := range bad {
		errs := append(Decode([]byte(tt.text), tt.o), tt.o.Validate()...)
		if len(errs) != 1 || errs[0].Field != tt.field {
			t.Errorf("%s: %v, want one of %s", tt.text, errs, tt.field)
		}
	}
}

func TestConditions(t *testing.T) {
	var cs Conditions
	if !cs.Set(Condition{Type: Ready, Status: False, Reason: "Compiling"}) || cs.IsTrue(Ready) {
		t.Errorf("%+v", cs)
	}
	first := cs.Find(Ready).LastTransitionTime
	if first.IsZero() {
		t.Error("no time")
	}
	if cs.Set(Condition{Type: Ready, Status: False, Reason: "Compiling"}) {
		t.Error("the same is a change")
	}
	if !cs.Set(Condition{Type: Ready, Status: False, Reason: "Other"}) || !cs.Find(Ready).LastTransitionTime.Equal(first) {
		t.Error("another reason is another transition")
	}
	cs.Set(Condition{Type: Progressing, Status: True})
	if !cs.Set(Condition{Type: Ready, Status: True}) || !cs.IsTrue(Ready) || len(cs) != 2 || !cs.Find(Ready).LastTransitionTime.After(first) {
		t.Errorf("%+v", cs)
	}
	cs.Remove(Ready)
	if cs.Find(Ready) != nil || len(cs) != 1 {
		t.Errorf("%+v", cs)
	}
}

func TestSplitRef(t *testing.T) {
	digest := "sha256:" + strings.Repeat("0", 64)
	for ref, want := range map[string]string{"f@1.0.0": "f 1.0.0", "f@prod": "f prod", digest: " " + digest} {
		function, version, ok := SplitRef(ref)
		if !ok || function+" "+version != want {
			t.Errorf("%s: %s %s %v", ref, function, version, ok)
		}
	}
	for _, ref := range []string{"", "f", "@1.0.0", "f@", "f@1.0", "F@prod", "f@prod@x", "sha256:", "sha256:" + strings.Repeat("A", 64), "../f@prod", "f@v1.0.0/x"} {
		if _, _, ok := SplitRef(ref); ok {
			t.Errorf("%q names a module", ref)
		}
	}
}
