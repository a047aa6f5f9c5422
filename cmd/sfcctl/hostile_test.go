package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sfc/testbed/gate"
	"sfc/testbed/replay"
)

// Every hostile module is deployed through a chain file, as a tenant would,
// offline and live. What may not run is refused by name and nothing starts;
// what runs costs its own packets, each for a named reason, and no other.
func TestHostileModules(t *testing.T) {
	files, err := filepath.Glob("../../nf/wasm/testdata/hostile/*.*")
	if err != nil || len(files) < 50 {
		t.Fatalf("%d modules found: %v", len(files), err)
	}
	in := udpCapture(t, 600)
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			module, kind, text := assembled(t, file)
			chain := chainFile(t, module, "{}")
			t.Run("offline", func(t *testing.T) {
				gate.Leaks(t)
				checkHostile(t, kind, text, "--chain", chain, "--in", in, "--loop", "2", "--offline")
			})
			if slices.Contains([]string{"refused", "instantiate", "configure"}, kind) {
				return // that is before anything depends on the mode
			}
			t.Run("live", func(t *testing.T) {
				gate.Root(t)
				gate.Leaks(t)
				checkHostile(t, kind, text, "--chain", chain, "--in", in, "--loop", "2")
			})
		})
	}
}

func checkHostile(t *testing.T, kind, text string, args ...string) {
	out := filepath.Join(t.TempDir(), "out.pcapng")
	rep, got := replayed(t, append(args, "--out", out)...)
	switch kind {
	case "refused", "instantiate", "configure":
		word, code, _ := strings.Cut(text, " ")
		if kind == "refused" {
			word, code = text, ""
		} else if word == "budget" {
			word = "deadline passed"
		}
		if got.status != exitFailed || got.stdout != "" {
			t.Fatalf("%+v, want a refusal", got)
		}
		for _, want := range []string{word, code, "function guest"} {
			if !strings.Contains(got.stderr, want) {
				t.Errorf("stderr is %q, want %q in it", got.stderr, want)
			}
		}
		if _, err := os.Stat(out); err == nil {
			t.Error("a file was written although nothing started")
		}
		return
	}
	if got.status != exitOK {
		t.Fatalf("status %d, stderr %s", got.status, got.stderr)
	}
	if rep.Sent != 1200 || rep.Lost != 0 || rep.Foreign != 0 || len(rep.Functions) != 1 {
		t.Fatalf("%+v", rep)
	}
	checkFate(t, kind, text, &rep)
}

// checkFate compares what became of the packets with the module's expectation.
func checkFate(t *testing.T, kind, text string, rep *replay.Report) {
	f := rep.Functions[0]
	reasons := func(allowed ...string) {
		t.Helper()
		for r := range rep.Dropped {
			if !slices.Contains(allowed, strings.TrimPrefix(r, "guest.")) {
				t.Errorf("dropped for %s, only %v is allowed: %v", r, allowed, rep.Dropped)
			}
		}
	}
	faulted := func(reason string) {
		t.Helper()
		if f.Faults == 0 || f.LastFault == "" || rep.Dropped["guest."+reason] == 0 {
			t.Errorf("no fault is shown: %+v, dropped %v", f, rep.Dropped)
		}
	}
	switch kind {
	case "fault":
		reason := map[string]string{"trap": "fault", "budget": "budget"}[text]
		faulted(reason)
		reasons(reason, "suspended")
		if rep.Received != 0 {
			t.Errorf("%d packets got through", rep.Received)
		}
	case "rare":
		faulted("fault")
		reasons("fault", "suspended")
		if rep.Received < rep.Sent/2 {
			t.Errorf("only %d of %d packets got through", rep.Received, rep.Sent)
		}
	case "tick":
		if f.Faults == 0 || f.LastFault == "" {
			t.Errorf("no fault is shown: %+v", f)
		}
		reasons("suspended")
	case "drop":
		// A function that mixes up the packets of a burst does no harm to a
		// burst of one.
		reasons(text)
		if n := rep.Dropped["guest."+text]; n == 0 || n+rep.Received != rep.Sent {
			t.Errorf("dropped %v, received %d, want all %d dropped for guest.%s", rep.Dropped, rep.Received, rep.Sent, text)
		}
	case "verdict":
		want := map[string]uint64{"next": rep.Received, "tx": rep.Received, "pass": rep.Passed, "drop": rep.Dropped["guest.undeclared"]}
		n, ok := want[text]
		if rep.Damaged > 0 { // it wrote to packets that were still waiting
			n += rep.Dropped["no_path"]
		}
		if !ok || n != rep.Sent {
			t.Errorf("received %d, passed %d, dropped %v, want all %s", rep.Received, rep.Passed, rep.Dropped, text)
		}
	case "limit":
		// The account balances; what a guest that eats memory may cost is
		// measured where the process is its own.
	default:
		t.Errorf("unknown expectation %q", kind)
	}
}
