package wasm

import (
	"errors"
	"fmt"
	"sync"

	"sfc/dataplane/arena"
	"sfc/nf"
)

// TenantLimits bound what the functions of a tenant may use together, in all
// groups of a runtime. Zero fields: no limit.
type TenantLimits struct {
	// MemoryBytes bounds TenantUsage.MemoryBytes. What would go beyond is not
	// made: a group, a replacement, or a spare.
	MemoryBytes int64
	// LogLines is how many lines all functions may write per second, and at
	// once, together. Each may write 10 whatever it is.
	LogLines int
}

// TenantUsage is what a tenant's functions use.
type TenantUsage struct {
	// Groups and Instances are how many there are, spares included.
	Groups, Instances int
	// InstanceBytes is how much the instances can have of their own: stack,
	// configuration, data and heap, which have their size once sfc_configure
	// is done.
	InstanceBytes int64
	// SlotBytes is the size of their flow state. ScrapBytes is what they can
	// fill of the window that nothing is mapped over: Options.ScrapBytes once
	// there is a group.
	SlotBytes, ScrapBytes int64
	// HostBytes is what the host keeps for the tenant's chains: see
	// [Runtime.ClaimMemory].
	HostBytes int64
	// LogSuppressed counts lines over TenantLimits.LogLines. It starts anew
	// when the tenant has neither limits nor memory.
	LogSuppressed uint64
}

// MemoryBytes is how much memory the tenant can have of the host.
func (u TenantUsage) MemoryBytes() int64 {
	return u.InstanceBytes + u.SlotBytes + u.ScrapBytes + u.HostBytes
}

// ErrQuota: the tenant would have more memory than it may.
var ErrQuota = errors.New("over the tenant's memory quota")

// tenant is the account of a tenant.
type tenant struct {
	name string
	log  logQuota

	mu     sync.Mutex
	limits TenantLimits
	used   TenantUsage
	scrap  *arena.Region // as long as there are groups
}

// SetTenant sets what a tenant may use from now on. What it has, it keeps; with
// less than that, a function that faults finds no new spares.
func (rt *Runtime) SetTenant(name string, l TenantLimits) error {
	if l.MemoryBytes < 0 || l.LogLines < 0 || l.LogLines > maxLogLines {
		return fmt.Errorf("tenant %s: memory %d and log lines %d: both are at least 0, lines at most %d", name, l.MemoryBytes, l.LogLines, maxLogLines)
	}
	rt.mu.Lock()
	defer rt.mu.Unlock()
	t := rt.tenant(name)
	t.mu.Lock()
	t.limits = l
	t.log.set(l.LogLines)
	t.mu.Unlock()
	rt.forgetIdle(t)
	return nil
}

// TenantUsage says what a tenant uses.
func (rt *Runtime) TenantUsage(name string) TenantUsage {
	rt.mu.Lock()
	defer rt.mu.Unlock()
	t := rt.tenants[name]
	if t == nil {
		return TenantUsage{}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	u := t.used
	u.LogSuppressed = t.log.suppressed()
	return u
}

// tenant returns the account of a tenant. The runtime's mu is held.
func (rt *Runtime) tenant(name string) *tenant {
	t := rt.tenants[name]
	if t == nil {
		t = &tenant{name: name, log: newLogQuota()}
		rt.tenants[name] = t
	}
	return t
}

// forgetIdle frees the account of a tenant that has nothing. The runtime's mu is
// held.
func (rt *Runtime) forgetIdle(t *tenant) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.used.Groups == 0 && t.used.HostBytes == 0 && t.limits == (TenantLimits{}) {
		delete(rt.tenants, t.name)
		t.log.close()
	}
}

// enter counts a new group, and makes the tenant's scrap with the first one.
func (rt *Runtime) enter(name string) (*tenant, error) {
	rt.mu.Lock()
	defer rt.mu.Unlock()
	t := rt.tenant(name)
	if t.scrap == nil {
		if err := t.openScrap(rt.opts.ScrapBytes); err != nil {
			rt.forgetIdle(t)
			return nil, err
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.used.Groups++
	return t, nil
}

func (t *tenant) openScrap(size int) error {
	if err := t.claim("what functions may fill of their window", &t.used.ScrapBytes, int64(size)); err != nil {
		return err
	}
	r, err := arena.Open("scrap", size, arena.Options{Sparse: true})
	if err != nil {
		t.release(&t.used.ScrapBytes, int64(size))
		return err
	}
	t.scrap = r
	return nil
}

// leave is enter's counterpart: nothing of the group maps the scrap any more.
func (rt *Runtime) leave(t *tenant) error {
	rt.mu.Lock()
	defer rt.mu.Unlock()
	var err error
	t.mu.Lock()
	if t.used.Groups--; t.used.Groups == 0 {
		t.used.ScrapBytes -= int64(len(t.scrap.Bytes()))
		err = t.scrap.Close()
		t.scrap = nil
	}
	t.mu.Unlock()
	rt.forgetIdle(t)
	return err
}

// claim adds bytes to one of the account's sums, unless that is over the quota.
func (t *tenant) claim(what string, sum *int64, bytes int64) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	has := t.used.MemoryBytes()
	if most := t.limits.MemoryBytes; bytes > 0 && most > 0 && has+bytes > most {
		return fmt.Errorf("%w: tenant %s has %s of %s, and %s takes %s more: fewer flows or functions, modules with a lower memory limit, or a higher quota",
			ErrQuota, t.name, mebibytes(has), mebibytes(most), what, mebibytes(bytes))
	}
	*sum += bytes
	return nil
}

// ClaimMemory counts memory that the host keeps for a tenant, such as a flow
// table, before it is made: [ErrQuota] when that would be too much. What says
// what takes it. The caller calls release once, when the memory is given back.
func (rt *Runtime) ClaimMemory(name, what string, bytes int64) (release func(), err error) {
	rt.mu.Lock()
	defer rt.mu.Unlock()
	t := rt.tenant(name)
	if err := t.claim(what, &t.used.HostBytes, bytes); err != nil {
		rt.forgetIdle(t)
		return nil, err
	}
	return func() {
		rt.mu.Lock()
		defer rt.mu.Unlock()
		t.release(&t.used.HostBytes, bytes)
		rt.forgetIdle(t)
	}, nil
}

func (t *tenant) release(sum *int64, bytes int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	*sum -= bytes
}

func mebibytes(n int64) string { return fmt.Sprintf("%.2f MiB", float64(n)/(1<<20)) }

// claimInstance counts an instance with the memory that a module starts with.
func (t *tenant) claimInstance(function string, info *nf.Module) (bytes int64, err error) {
	bytes = int64(nf.StackTop(info)) + nf.ConfigStart + nf.ConfigMax - nf.PrivateStart
	for _, m := range info.Memories {
		bytes += max(0, int64(m.Pages.Min)*nf.PageBytes-nf.DataStart)
	}
	if err := t.claim("an instance of function "+function, &t.used.InstanceBytes, bytes); err != nil {
		return 0, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.used.Instances++
	return bytes, nil
}

// claimGrowth counts what an instance has grown by: it is configured now, and
// grows no more.
func (i *instance) claimGrowth(function string) error {
	more := i.growth()
	if err := i.owner.claim("the memory of function "+function, &i.owner.used.InstanceBytes, more); err != nil {
		return err
	}
	i.bytes += more
	return nil
}

// releaseInstance is its counterpart, for all that the instance came to have.
func (t *tenant) releaseInstance(bytes int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.used.Instances--
	t.used.InstanceBytes -= bytes
}
