package functions

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"sfc/ctrl/api"
	"sfc/ctrl/store"
)

// stands says what an alias stands for, as 1.0.0 or 1.0.0+1.1.0@10.
func stands(a *api.Alias) string {
	if c := a.Spec.Canary; c != nil {
		return fmt.Sprintf("%s+%s@%d", a.Spec.Version, c.Version, c.Percent)
	}
	return a.Spec.Version
}

func TestAliasLife(t *testing.T) {
	s, _ := fixture(t)
	deploy(t, s, "1.0.0", "1.1.0", "1.2.0")
	ctx := t.Context()
	move := func(version string, percent int) func() (*api.Alias, error) {
		return func() (*api.Alias, error) {
			return s.MoveAlias(ctx, "hop", "prod", Target{Version: version, Percent: percent}, "", "me")
		}
	}
	promote := func() (*api.Alias, error) { return s.Promote(ctx, "hop", "prod", "", "me") }
	abort := func() (*api.Alias, error) { return s.Abort(ctx, "hop", "prod", "", "me") }
	rollback := func() (*api.Alias, error) { return s.Rollback(ctx, "hop", "prod", "", "me") }
	for i, step := range []struct {
		do   func() (*api.Alias, error)
		want string
		err  error
	}{
		{move("1.0.0", 10), "", ErrCanary}, // there is nothing yet for the others
		{rollback, "", store.ErrNotFound},
		{move("9.0.0", 0), "", store.ErrNotFound},
		{move("1.0.0", 0), "1.0.0", nil},
		{rollback, "", store.ErrNotFound},
		{promote, "", ErrCanary},
		{abort, "1.0.0", nil},
		{move("1.1.0", 10), "1.0.0+1.1.0@10", nil},
		{move("1.0.0", 10), "", ErrCanary}, // all meet it already
		{move("9.0.0", 10), "", store.ErrNotFound},
		{move("1.1.0", 50), "1.0.0+1.1.0@50", nil},
		{abort, "1.0.0", nil},
		{move("1.1.0", 5), "1.0.0+1.1.0@5", nil},
		{promote, "1.1.0", nil},
		{rollback, "1.0.0", nil},
		{rollback, "1.1.0", nil}, // undoes the rollback
		{move("1.2.0", 0), "1.2.0", nil},
		{move("1.0.0", 1), "1.2.0+1.0.0@1", nil},
		{rollback, "1.2.0", nil}, // ends the trial
		{rollback, "1.1.0", nil},
	} {
		before, _ := s.Alias("hop", "prod")
		a, err := step.do()
		if step.err != nil {
			is(t, err, step.err)
			after, _ := s.Alias("hop", "prod")
			if before != nil && stands(before) != stands(after) {
				t.Errorf("step %d failed and moved it to %s", i, stands(after))
			}
			continue
		}
		if err != nil || stands(a) != step.want {
			t.Fatalf("step %d: %v, want %s: %v", i, a, step.want, err)
		}
		if h := a.Status.History[0]; h.By != "me" || h.Version != a.Spec.Version || a.Status.Digest != must[*api.Function](t)(s.Get("hop", a.Spec.Version)).Spec.Digest {
			t.Errorf("step %d: status %+v", i, a.Status)
		}
	}
	for i := range 2 * MaxHistory {
		must[*api.Alias](t)(move([]string{"1.0.0", "1.1.0"}[i%2], 0)())
	}
	a := must[*api.Alias](t)(s.Alias("hop", "prod"))
	if len(a.Status.History) != MaxHistory {
		t.Errorf("%d moves are kept", len(a.Status.History))
	}
	// What it is already changes nothing.
	if again := must[*api.Alias](t)(move(a.Spec.Version, 0)()); again.Metadata.ResourceVersion != a.Metadata.ResourceVersion || again.Metadata.Generation != a.Metadata.Generation {
		t.Error("a move to where it is made a change")
	}
}

func TestAliasCompareAndSet(t *testing.T) {
	s, _ := fixture(t)
	deploy(t, s, "1.0.0", "1.1.0")
	set := func(version, resourceVersion string) (*api.Alias, error) {
		return s.SetAlias(t.Context(), "hop", "prod", api.AliasSpec{Version: version}, resourceVersion, "me")
	}
	is(t, second(set("1.0.0", "7")), store.ErrNotFound)
	a := must[*api.Alias](t)(set("1.0.0", "0"))
	is(t, second(set("1.1.0", "0")), store.ErrExists)
	b := must[*api.Alias](t)(set("1.1.0", a.Metadata.ResourceVersion))
	is(t, second(set("1.0.0", a.Metadata.ResourceVersion)), store.ErrConflict)
	is(t, second(s.Rollback(t.Context(), "hop", "prod", a.Metadata.ResourceVersion, "me")), store.ErrConflict)
	is(t, second(set("1.0.0", "what")), store.ErrConflict)
	is(t, s.DeleteAlias(t.Context(), "hop", "prod", a.Metadata.ResourceVersion, nil), store.ErrConflict)
	is(t, s.DeleteAlias(t.Context(), "hop", "prod", "", []string{"hop@prod"}), ErrInUse)
	if err := s.DeleteAlias(t.Context(), "hop", "prod", b.Metadata.ResourceVersion, []string{"hop@1.0.0", "hop"}); err != nil {
		t.Error(err)
	}
	is(t, second(s.Alias("hop", "prod")), store.ErrNotFound)
	is(t, second(s.SetAlias(t.Context(), "hop", "1.0.0", api.AliasSpec{Version: "1.0.0"}, "", "me")), ErrName)
}

// Many who move it at once: each move is whole, and none is lost unseen.
func TestAliasMovedByMany(t *testing.T) {
	s, _ := fixture(t)
	deploy(t, s, "1.0.0", "1.1.0", "1.2.0")
	var wg sync.WaitGroup
	for i := range 12 {
		wg.Go(func() {
			if _, err := s.MoveAlias(t.Context(), "hop", "prod", Target{Version: fmt.Sprintf("1.%d.0", i%3)}, "", fmt.Sprint(i)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	a := must[*api.Alias](t)(s.Alias("hop", "prod"))
	if int64(len(a.Status.History)) != a.Metadata.Generation {
		t.Errorf("generation %d, %d moves", a.Metadata.Generation, len(a.Status.History))
	}
	for i, h := range a.Status.History[1:] {
		if h.Version == a.Status.History[i].Version {
			t.Errorf("move %d goes from %s to itself", i, h.Version)
		}
	}
}

func TestDelete(t *testing.T) {
	s, _ := fixture(t)
	all := deploy(t, s, "1.0.0", "1.1.0", "1.2.0", "1.3.0")
	must[*api.Alias](t)(s.MoveAlias(t.Context(), "hop", "prod", Target{Version: "1.0.0"}, "", "me"))
	must[*api.Alias](t)(s.MoveAlias(t.Context(), "hop", "prod", Target{Version: "1.1.0", Percent: 5}, "", "me"))
	refs := []string{all[2].Spec.Digest, "gone@1.0.0", "???"}
	for _, v := range []string{"1.0.0", "1.1.0", "1.2.0"} {
		is(t, s.Delete(t.Context(), "hop", v, "", refs), ErrInUse)
	}
	is(t, s.Delete(t.Context(), "hop", "9.0.0", "", refs), store.ErrNotFound)
	is(t, s.Delete(t.Context(), "hop", "1.3.0", "1", refs), store.ErrConflict)
	if err := s.Delete(t.Context(), "hop", "1.3.0", all[3].Metadata.ResourceVersion, refs); err != nil {
		t.Error(err)
	}
	if n := len(must[[]store.Module](t)(s.modules.List(t.Context()))); n != 3 {
		t.Errorf("%d modules are left", n)
	}
}

func TestCollect(t *testing.T) {
	s, _ := fixture(t)
	versions := []string{"1.0.0", "1.1.0", "1.2.0", "1.3.0", "1.4.0", "1.5.0"}
	all := deploy(t, s, versions...)
	twin := upload(built(t, "1.0.0", 0)) // the content of one that is kept
	twin.Version = "1.0.1"
	if _, _, err := s.Put(t.Context(), twin, Policy{}); err != nil {
		t.Fatal(err)
	}
	must[*api.Alias](t)(s.MoveAlias(t.Context(), "hop", "prod", Target{Version: "1.0.0"}, "", "me"))
	must[*api.Alias](t)(s.MoveAlias(t.Context(), "hop", "prod", Target{Version: "1.1.0"}, "", "me"))
	// Kept: 1.0.0 for a rollback, 1.1.0, 1.2.0 named, 1.3.0 running, 1.5.0 new.
	refs, running := []string{"hop@1.2.0", "hop@prod"}, []string{all[3].Spec.Digest}
	if c := must[Collection](t)(s.Collect(t.Context(), refs, running, time.Hour, false)); len(c.Versions)+len(c.Modules) != 0 {
		t.Errorf("collected %+v within the grace", c)
	}
	s.opts.Now = func() time.Time { return all[5].Metadata.CreatedAt.Add(time.Hour) }
	describe := func(c Collection) string {
		var names []string
		for _, f := range c.Versions {
			names = append(names, f.Spec.Version)
		}
		return fmt.Sprintf("%s, %d modules, %v", strings.Join(names, " "), len(c.Modules), c.Bytes > 0)
	}
	for _, dry := range []bool{true, false} {
		c := must[Collection](t)(s.Collect(t.Context(), refs, running, time.Hour+time.Millisecond, dry))
		if got, want := describe(c), "1.4.0, 1 modules, true"; got != want {
			t.Errorf("dry run %v: %s, want %s", dry, got, want)
		}
	}
	c := must[Collection](t)(s.Collect(t.Context(), refs, running, 0, false))
	if got, want := describe(c), "1.0.1 1.5.0, 1 modules, true"; got != want {
		t.Errorf("without grace: %s, want %s", got, want)
	}
	for _, f := range must[[]*api.Function](t)(s.List("hop")) {
		if _, _, err := s.Open(t.Context(), f.Spec.Digest); err != nil {
			t.Errorf("%s has no module: %v", f.Spec.Version, err)
		}
	}
	if n := len(must[[]store.Module](t)(s.modules.List(t.Context()))); n != 4 {
		t.Errorf("%d modules are left", n)
	}
}
