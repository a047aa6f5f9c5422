package bench

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sfc/chains"
)

// Names of the ports of every engine here, in index order: what is measured
// comes in by the first.
var ports = []string{"in", "out"}

const (
	portIn = iota
	portOut
)

// The network: who is inside begins flows, and has the addresses of the pool
// outside.
const (
	inside  = "10.0.0.0/8"
	outside = "20.0.0.0/8"
	pool    = "198.51.100.0/24"
)

// function is a function of the catalogue.
func function(tb testing.TB, name, config string) chains.FunctionSpec {
	tb.Helper()
	module, err := filepath.Abs(fmt.Sprintf("../../nf/catalog/%s/%[1]s.wasm", name))
	if err != nil {
		tb.Fatal(err)
	}
	return chains.FunctionSpec{Name: name, Module: module, Config: []byte(config)}
}

// oneWay is a chain of everything that comes in by a port, and leaves by the
// other.
func oneWay(name string, in int, functions ...chains.FunctionSpec) chains.Spec {
	m := chains.MatchAll()
	m.Port = ports[in]
	return chains.Spec{
		Name: name, Tenant: "bench", Match: []chains.Match{m}, Egress: ports[1-in],
		Functions: functions, Budget: chains.DefaultBudget, Flows: chains.DefaultFlows, Unmatched: chains.UnmatchedDrop,
	}
}

// twoWays is a chain whose packets come back through its functions in reverse
// order, with room for so many flows. Its budget has room for the page faults of
// a million flows that begin at once.
func twoWays(name string, flows int, functions ...chains.FunctionSpec) chains.Spec {
	s := oneWay(name, portIn, functions...)
	s.Return = s.Mirror()
	s.Flows = flows
	s.Budget = 50 * time.Millisecond
	return s
}

// hundredRules is a list of rules of which the last permits what comes from the
// inside and no other matches.
func hundredRules() string {
	var rules strings.Builder
	for i := range 99 {
		fmt.Fprintf(&rules, `{"action":"deny","proto":"%s","src":"172.%d.%d.0/24","dst":"10.%d.0.0/16","dst_ports":"%d-%d"},`,
			[]string{"tcp", "udp"}[i%2], 16+i%16, i, i, 1000+i, 2000+i)
	}
	return fmt.Sprintf(`{"default":"deny","rules":[%s{"action":"permit","src":"%s"}]}`, rules.String(), inside)
}

// statelessChain is four functions that keep nothing of flows, or none.
func statelessChain(tb testing.TB, name string) []chains.FunctionSpec {
	if name == "empty" {
		return nil
	}
	return []chains.FunctionSpec{
		function(tb, "acl", hundredRules()),
		function(tb, "ratelimit", `{"rate":1000000000,"burst":1000000000,"unit":"pps","max_sources":4096,"prefix4":24}`),
		function(tb, "dnsguard", `{"block":["ads.example"]}`),
		function(tb, "hop", `{"src_mac":"02:00:00:00:00:02","dst_mac":"02:00:00:00:00:03"}`),
	}
}

// statefulChain is the stateful example chain, or one of its functions.
// Translations are as RFC 4787 wants them, of a pool with room for all flows.
func statefulChain(tb testing.TB, name string) (list []chains.FunctionSpec) {
	for _, f := range []chains.FunctionSpec{
		function(tb, "firewall", hundredRules()),
		function(tb, "nat44", fmt.Sprintf(`{"inside":["%s"],"pool":["%s"]}`, inside, pool)),
		function(tb, "ratelimit", `{"key":"flow","rate":1000000000,"burst":1000000000,"unit":"pps"}`),
		function(tb, "flowstat", `{"tcp_rtt":true}`),
	} {
		if name == "stateful" || name == f.Name {
			list = append(list, f)
		}
	}
	return list
}
