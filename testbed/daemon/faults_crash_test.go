package daemon

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sfc/ctrl/api"
	"sfc/ctrl/client"
	"sfc/nf"
)

// A data plane that dies again and again is started later and later, with an
// alarm in the log, in health and among the events; meanwhile packets meet their
// ports' policy. When it stops dying everything is as it was.
func TestFaultCrashLoop(t *testing.T) {
	f := newFaulty(t, publicDir(t))
	f.tenant("acme")
	f.ports(api.UnmatchedForward)
	// What passes the chain is stopped there, what meets the policy comes through.
	deny := chainOn("edge", 5, "firewall@1.0.0")
	deny.Spec.Functions[0].Config = []byte(`{"default":"deny"}`)
	firewall := module(t, "firewall")
	must[*api.Function](t)(f.api.Upload(t.Context(), "acme", client.Upload{Function: "firewall", Version: versionOf(t, firewall), Module: bytes.NewReader(firewall), Size: int64(len(firewall))}))
	deny.Spec.Functions[0].Module = "firewall@" + versionOf(t, firewall)
	must[*api.Chain](t)(f.api.Chains("acme").Create(t.Context(), deny))
	f.condition("acme", "edge", api.Ready, api.True, "")
	through := func() int {
		t.Helper()
		s := f.stream(5, time.Millisecond)
		time.Sleep(200 * time.Millisecond)
		s.lost()
		return s.received
	}
	if n := through(); n != 0 {
		t.Fatalf("%d packets came through a chain that denies", n)
	}
	kills := 0
	for end := time.Now().Add(30 * time.Second); !strings.Contains(f.log.String(), "alarm=true"); time.Sleep(5 * time.Millisecond) {
		if pid, ok := f.child("dataplane"); ok && unix.Kill(pid, unix.SIGKILL) == nil {
			kills++
		}
		if time.Now().After(end) {
			t.Fatalf("no alarm after %d kills", kills)
		}
	}
	came := through() // of 800 ms that nobody takes packets, 200 are looked at
	f.problem("dataplane dies again and again")
	if came == 0 {
		t.Error("packets did not meet the ports' policy")
	}
	for _, wait := range []string{"100ms", "200ms", "400ms"} {
		if !strings.Contains(f.log.String(), `"again in"=`+wait) {
			t.Errorf("it never waited %s", wait)
		}
	}
	f.await("back", func() string {
		if n := through(); n != 0 {
			return "packets still meet the policy"
		}
		return ""
	})
	f.condition("acme", "edge", api.Ready, api.True, "")
	saw := map[string]bool{}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	for e, err := range f.api.Events(ctx, "", client.EventQuery{}) {
		if err != nil {
			break
		}
		saw[e.Reason] = true
	}
	for _, want := range []string{"DataPlaneRestarted", "CrashLoop"} {
		if !saw[want] {
			t.Errorf("there is no event %s: %v", want, saw)
		}
	}
	t.Logf("%d kills, %d packets met the policy meanwhile", kills, came)
}

// versionOf is the version that a module's manifest says.
func versionOf(t testing.TB, wasm []byte) string {
	t.Helper()
	var m struct{ Version string }
	check(t, json.Unmarshal(must[*nf.Module](t)(nf.Inspect(wasm)).Manifest, &m))
	return m.Version
}
