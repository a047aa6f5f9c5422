package daemon

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sfc/ctrl/api"
	"sfc/ctrl/client"
	"sfc/nf"
)

// memory is what a process has in memory, in bytes.
func memory(t testing.TB, pid int) int64 {
	t.Helper()
	text := must[[]byte](t)(os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid)))
	pages := must[int64](t)(strconv.ParseInt(strings.Fields(string(text))[1], 10, 64))
	return pages * int64(os.Getpagesize())
}

// poll gets something again and again until stop, and returns how long that took
// at most, and at the median.
func (f *faulty) poll(stop <-chan struct{}, get func(context.Context) error) (worst, median time.Duration) {
	var all []time.Duration
	for {
		select {
		case <-stop:
			slices.Sort(all)
			return all[len(all)-1], all[len(all)/2]
		case <-time.After(5 * time.Millisecond):
		}
		begin := time.Now()
		if err := get(context.Background()); err != nil {
			f.t.Errorf("it did not answer: %v", err)
		}
		all = append(all, time.Since(begin))
	}
}

// while does something while the daemon is asked for things, and says what the
// answers took.
func (f *faulty) while(what string, do func()) (worst time.Duration) {
	f.t.Helper()
	stop := make(chan struct{})
	var asking sync.WaitGroup
	asking.Go(func() {
		var median time.Duration
		worst, median = f.poll(stop, func(ctx context.Context) error { _, err := f.api.Tenants().Get(ctx, "acme"); return err })
		f.t.Logf("during %s a GET took %v, %v at worst", what, median.Round(10*time.Microsecond), worst.Round(time.Millisecond))
	})
	do()
	close(stop)
	asking.Wait()
	return worst
}

// slowest is how long a GET may take on a machine that is busy with much else.
const slowest = 2 * time.Second

// What is larger than the store can hold in one message is refused by name,
// whether it comes that large or grows to it, and everybody goes on.
func TestFaultTooLarge(t *testing.T) {
	f := newFaulty(t, publicDir(t))
	f.tenant("acme")
	large := chainOn("large", 5, "hop@1.0.0")
	large.Spec.Functions[0].Config = must[[]byte](t)(json.Marshal(map[string]string{"text": strings.Repeat("x", 1<<20)}))
	_, err := f.api.Chains("acme").Create(t.Context(), large)
	t.Logf("refused: %v", err)
	is(t, err, 413, api.ReasonTooLarge)
	// Short on the way, long in the store: JSON may write < as six characters.
	body := fmt.Sprintf(`{"metadata":{"name":"grows"},"spec":{"egress":"out","functions":[{"module":"hop@1.0.0","config":{"text":"%s"}}]}}`, strings.Repeat("<", 800<<10))
	status, answer := f.raw("POST", "/v1/tenants/acme/chains", "application/json", strings.NewReader(body))
	if status == 201 {
		got := must[*api.Chain](t)(f.api.Chains("acme").Get(t.Context(), "grows"))
		if !bytes.Contains(got.Spec.Functions[0].Config, []byte("<<<<")) {
			t.Errorf("what is kept is not what came")
		}
	} else if status != 413 && status != 422 {
		t.Errorf("what grows to more than the store holds: %d %.300s", status, answer)
	}
	f.well()
	must[*api.Chain](t)(f.api.Chains("acme").Create(t.Context(), chainOn("small", 5, "hop@1.0.0")))
}

// A thousand modules deployed at once, by the API, all end, each once; meanwhile
// the daemon answers and a chain loses nothing.
func TestFaultThousandDeploys(t *testing.T) {
	f := newFaulty(t, publicDir(t))
	f.tenant("acme")
	f.ports(api.UnmatchedDrop)
	f.active("acme", "edge", 5)
	s := f.stream(5, time.Millisecond)
	hop := module(t, "hop")
	fields := map[string]any{}
	check(t, json.Unmarshal(must[*nf.Module](t)(nf.Inspect(hop)).Manifest, &fields))
	const deploys, versions = 1000, 250
	modules := make([][]byte, versions)
	for i := range modules {
		fields["version"] = fmt.Sprintf("2.0.%d", i)
		modules[i] = must[[]byte](t)(nf.AppendManifest(hop, must[[]byte](t)(json.Marshal(fields))))
	}
	begin := time.Now()
	var failed atomic.Int64
	worst := f.while("1,000 deploys", func() {
		var all sync.WaitGroup
		for i := range deploys {
			all.Go(func() {
				m := modules[i%versions]
				_, err := f.api.Upload(t.Context(), "acme", client.Upload{
					Function: "hop", Version: fmt.Sprintf("2.0.%d", i%versions), Module: bytes.NewReader(m), Size: int64(len(m)),
				})
				if err != nil && failed.Add(1) < 5 {
					t.Error(err)
				}
			})
		}
		all.Wait()
	})
	t.Logf("%d deploys of %d versions took %v", deploys, versions, time.Since(begin).Round(time.Millisecond))
	if worst > slowest {
		t.Errorf("a GET took %v meanwhile", worst)
	}
	list := must[*api.List[api.Function]](t)(f.api.AllFunctions(t.Context(), "acme", "hop"))
	if len(list.Items) != versions+1 || failed.Load() > 0 {
		t.Errorf("%d versions are there, %d deploys failed", len(list.Items), failed.Load())
	}
	if lost := s.lost(); lost != 0 {
		t.Errorf("%d of %d packets were lost", lost, s.sent)
	}
}

// More chains than there is room for: as many as there is room for run, each of
// the others says why it does not, and the daemon answers.
func TestFaultManyChains(t *testing.T) {
	f := newFaulty(t, publicDir(t))
	f.tenant("acme")
	f.ports(api.UnmatchedDrop)
	f.active("acme", "first", 5)
	chains := 1500
	if os.Getenv("SFC_VERIFY") == "all" {
		chains = 10_000
	}
	const room = 1024
	s := f.stream(5, time.Millisecond)
	begin := time.Now()
	worst := f.while("making chains", func() {
		var makers sync.WaitGroup
		var next atomic.Int64
		for range 16 {
			makers.Go(func() {
				for i := next.Add(1); i < int64(chains); i = next.Add(1) {
					c := chainOn(fmt.Sprintf("c%05d", i), 10, "hop@1.0.0")
					c.Spec.Match[0].Protocol, c.Spec.Match[0].DstPorts = "udp", api.IntOrText(strconv.Itoa(int(i)))
					if _, err := f.api.Chains("acme").Create(context.Background(), c); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		makers.Wait()
	})
	made := time.Since(begin)
	var active, full int
	count := func() (left string) {
		active, full = 0, 0
		list, err := f.api.Chains("acme").All(context.Background())
		if err != nil {
			return err.Error()
		}
		for _, c := range list.Items {
			ready := c.Status.Conditions.Find(api.Ready)
			switch {
			case c.Status.Active:
				active++
			case ready != nil && ready.Status == api.False && strings.Contains(ready.Reason, "Capacity"):
				full++
			default:
				left = cmp.Or(left, fmt.Sprintf("%s: %+v", c.Metadata.Name, ready))
			}
		}
		if active != room {
			return cmp.Or(left, fmt.Sprintf("%d are active", active))
		}
		return left
	}
	settled := f.while("the data plane takes them in", func() {
		for end := time.Now().Add(4 * time.Minute); ; time.Sleep(200 * time.Millisecond) {
			left := count()
			if left == "" {
				break
			}
			if time.Now().After(end) {
				t.Errorf("after four minutes: %s; %d run, %d are told that there is no room", left, active, full)
				break
			}
		}
	})
	control, _ := f.child("control")
	dataplane, _ := f.child("dataplane")
	t.Logf("%d chains made in %v, settled after %v: %d run, %d say that there is no room; control %d MiB, data plane %d MiB", chains,
		made.Round(time.Millisecond), time.Since(begin).Round(time.Millisecond), active, full, memory(t, control)>>20, memory(t, dataplane)>>20)
	if max(worst, settled) > slowest {
		t.Errorf("a GET took %v meanwhile", max(worst, settled))
	}
	if lost := s.lost(); lost != 0 {
		t.Errorf("%d of %d packets of the first chain were lost", lost, s.sent)
	}
}
