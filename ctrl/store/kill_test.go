package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// victimDir names the environment variable that makes the test binary a process
// that writes to a store until it is killed; killRounds the one that says how
// often (default 5).
const (
	victimDir  = "SFC_STORE_VICTIM"
	killRounds = "SFC_STORE_KILLS"
)

const (
	victimWriters = 3
	victimKeys    = 4
)

// content returns bytes that only n determines.
func content(n, size int) []byte {
	b := make([]byte, size)
	rand.NewChaCha8([32]byte{byte(n), byte(n >> 8), byte(n >> 16), byte(n >> 24)}).Read(b)
	return append(b, fmt.Sprintf(":%d", n)...)
}

func valueOf(n int) []byte  { return content(n, n*7919%20000) }
func moduleOf(n int) []byte { return content(-n, n*7919%(3*chunkSize)) }

// victim writes for ever, and says before every write what it tries (T) and
// after it that it was acknowledged (A): a key and the number of its value (0:
// deleted), or a module.
func victim(dir string) {
	ctx := context.Background()
	s, err := Open(ctx, dir, Options{})
	check(err)
	sp, err := s.Tenant(ctx, "acme", Limits{})
	check(err)
	b, err := sp.Bucket(ctx, "desired")
	check(err)
	m, err := sp.Modules(ctx)
	check(err)
	say("R")
	seed := uint64(time.Now().UnixNano())
	for w := range victimWriters {
		go func() {
			r := rand.New(rand.NewPCG(seed, uint64(w)))
			for {
				key := fmt.Sprintf("w%d/%d", w, r.IntN(victimKeys))
				n := 1 + r.IntN(1<<20)
				e, err := b.Get(key)
				switch {
				case errors.Is(err, ErrNotFound):
					say("T %s %d", key, n)
					_, err = b.Create(ctx, key, valueOf(n))
				case r.IntN(5) == 0:
					n = 0
					say("T %s %d", key, n)
					_, err = b.Delete(ctx, key, e.Revision)
				default:
					say("T %s %d", key, n)
					_, err = b.Update(ctx, key, valueOf(n), e.Revision)
				}
				check(err)
				say("A %s %d", key, n)
			}
		}()
	}
	r := rand.New(rand.NewPCG(seed, victimWriters))
	for {
		n := 1 + r.IntN(1<<20)
		say("T module %d", n)
		mod, err := m.Put(ctx, bytes.NewReader(moduleOf(n)), PutOptions{MaxSize: 1 << 30})
		check(err)
		say("A module %d", n)
		if r.IntN(2) == 0 {
			say("T delete %d", n)
			check(m.Delete(ctx, mod.Digest))
			say("A delete %d", n)
		}
	}
}

func say(format string, args ...any) {
	// One system call each: what was said stays said.
	if _, err := fmt.Fprintf(os.Stdout, format+"\n", args...); err != nil {
		os.Exit(3)
	}
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
}

// expected is what a store may hold: for each key and module the numbers it may
// have, one if nothing was under way.
type expected map[string][]int

// digests remembers what moduleOf has made.
var digests = map[int]string{}

func moduleDigest(n int) string {
	if digests[n] == "" {
		digests[n] = digestOf(moduleOf(n))
	}
	return digests[n]
}

// hear takes in what a victim said.
func (x expected) hear(t *testing.T, said string) (acknowledged int) {
	t.Helper()
	for line := range strings.Lines(said) {
		f := strings.Fields(line)
		if len(f) != 3 || !strings.HasSuffix(line, "\n") {
			continue // ready, or killed while it spoke
		}
		n, err := strconv.Atoi(f[2])
		if err != nil {
			t.Fatalf("the victim said %q", line)
		}
		name := f[1]
		switch name {
		case "module":
			name = "module/" + f[2]
		case "delete":
			name, n = "module/"+f[2], 0
		}
		if f[0] == "T" {
			if x[name] == nil {
				x[name] = []int{0}
			}
			x[name] = append(x[name], n)
		} else {
			x[name] = []int{n}
			acknowledged++
		}
	}
	return acknowledged
}

// SIGKILL at any time: what was acknowledged is there, and nothing is there that
// was not written as a whole.
func TestKilledLosesNothing(t *testing.T) {
	rounds := 5
	if text := os.Getenv(killRounds); text != "" {
		var err error
		if rounds, err = strconv.Atoi(text); err != nil {
			t.Fatalf("%s=%s: %v", killRounds, text, err)
		}
	}
	dir := t.TempDir()
	x := expected{}
	acknowledged, underWay, early := 0, 0, 0
	for round := range rounds {
		said, ready := killOne(t, dir)
		if !ready {
			early++
		}
		acknowledged += x.hear(t, said)
		underWay += verify(t, dir, x, round)
		if t.Failed() {
			return
		}
	}
	t.Logf("%d kills, %d of them before the store was open: %d writes acknowledged and found, %d under way", rounds, early, acknowledged, underWay)
}

// killOne starts a victim and kills it: one in five while it opens the store,
// else at some time within a third of a second of work.
func killOne(t *testing.T, dir string) (said string, ready bool) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), victimDir+"="+dir)
	var out, complaints lockedBuffer
	cmd.Stdout, cmd.Stderr = &out, &complaints
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	early := rand.IntN(5) == 0
	for begin := time.Now(); !early && !strings.HasPrefix(out.String(), "R"); time.Sleep(time.Millisecond) {
		if time.Since(begin) > 20*time.Second {
			t.Errorf("the victim is not ready: %s", complaints.String())
			break
		}
	}
	within := 300 * time.Millisecond
	if early {
		within = 100 * time.Millisecond
	}
	time.Sleep(rand.N(within))
	if err := cmd.Process.Kill(); err != nil {
		t.Error(err)
	}
	err := cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != -1 {
		t.Fatalf("the victim ended by itself: %v: %s", err, complaints.String())
	}
	return out.String(), strings.HasPrefix(out.String(), "R")
}

// lockedBuffer is a buffer that is written and read at the same time.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// verify compares the store with what it may hold, makes that exact, and returns
// how many writes had been under way.
func verify(t *testing.T, dir string, x expected, round int) (underWay int) {
	t.Helper()
	s, err := Open(t.Context(), dir, Options{})
	if err != nil {
		t.Fatalf("round %d: %v", round, err)
	}
	defer shut(t, s)
	for _, d := range s.Damage() {
		t.Errorf("round %d: %v", round, d)
	}
	sp := tenant(t, s, "acme", Limits{})
	b := bucket(t, sp, "desired")
	m := must[*Modules](t)(sp.Modules(t.Context()))
	listed := map[string]bool{}
	for _, mod := range must[[]Module](t)(m.List(t.Context())) {
		listed[mod.Digest] = true
	}
	modules := 0
	for name, may := range x {
		if len(may) > 1 {
			underWay++
		}
		var found int
		if text, ok := strings.CutPrefix(name, "module/"); ok {
			n := must[int](t)(strconv.Atoi(text))
			if listed[moduleDigest(n)] {
				found = foundModule(t, m, n)
				modules++
			}
		} else {
			found = foundKey(t, b, name, may)
		}
		if !slices.Contains(may, found) {
			t.Errorf("round %d: %s holds %d, may be %v", round, name, found, may)
		}
		x[name] = []int{found}
	}
	if len(listed) != modules {
		t.Errorf("round %d: %d modules, want %d", round, len(listed), modules)
	}
	chunks, err := m.subjects(t.Context(), chunkSubjects+">")
	if err != nil || len(chunks) != modules {
		t.Errorf("round %d: chunks of %d uploads for %d modules, err %v", round, len(chunks), modules, err)
	}
	if u := sp.Usage(); u.Objects != modules+len(b.cache.keys) {
		t.Errorf("round %d: %d objects counted, want %d modules and %d keys", round, u.Objects, modules, len(b.cache.keys))
	}
	prune(t, m, x, modules-10)
	return underWay
}

// prune deletes n modules, so that they do not become more with every round.
func prune(t *testing.T, m *Modules, x expected, n int) {
	t.Helper()
	for name, may := range x {
		if text, ok := strings.CutPrefix(name, "module/"); ok && n > 0 && may[0] != 0 {
			if err := m.Delete(t.Context(), moduleDigest(must[int](t)(strconv.Atoi(text)))); err != nil {
				t.Error(err)
			}
			x[name] = []int{0}
			n--
		}
	}
}

// foundKey returns which of the numbers a key's value is of, 0 if there is none,
// -1 if it is of none of them.
func foundKey(t *testing.T, b *Bucket, key string, may []int) int {
	e, err := b.Get(key)
	if errors.Is(err, ErrNotFound) {
		return 0
	} else if err != nil {
		t.Error(err)
		return -1
	}
	for _, n := range may {
		if n != 0 && bytes.Equal(e.Value, valueOf(n)) {
			return n
		}
	}
	return -1
}

// foundModule returns n if its content is whole, else -1.
func foundModule(t *testing.T, m *Modules, n int) int {
	want := moduleOf(n)
	got, err := m.Get(t.Context(), digestOf(want))
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("module %d: %d bytes of %d, err %v", n, len(got), len(want), err)
		return -1
	}
	return n
}
