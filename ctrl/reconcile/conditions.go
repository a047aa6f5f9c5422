package reconcile

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"sfc/ctrl/api"
	"sfc/ctrl/plane"
)

// Types of conditions of chains, besides those of package api.
const (
	condResolved   = "Resolved"
	condModules    = "ModulesReady"
	condProgrammed = "Programmed"
)

// chainStatus is what a chain's status says after a round. seen is nil when the
// data plane does not know the chain; down says why it could not be asked.
func chainStatus(c *chain, v verdict, seen *plane.ChainStatus, down problem, now time.Time) api.ChainStatus {
	s := api.ChainStatus{Conditions: slices.Clone(c.status.Conditions), UpdatedAt: c.status.UpdatedAt}
	if seen != nil {
		s.ObservedGeneration, s.Active = seen.Generation, seen.Active
		for _, f := range seen.Functions {
			fs := api.ChainFunctionStatus{
				Name: f.Name, Version: cmp.Or(v.version(c, f.Name, f.Code), f.Version), Digest: digestPrefix + f.Code, State: f.State, Message: f.Message,
			}
			if f.Canary != "" {
				fs.CanaryDigest, fs.CanaryVersion, fs.CanaryPercent = digestPrefix+f.Canary, v.version(c, f.Name, f.Canary), v.share(f.Name, f.Canary)
			}
			s.Functions = append(s.Functions, fs)
		}
	}
	set := func(typ, status, reason, message string) {
		s.Conditions.Set(api.Condition{
			Type: typ, Status: status, Reason: reason, Message: message, LastTransitionTime: now.UTC(), ObservedGeneration: c.generation,
		})
	}
	yes := func(typ string, p problem, reason string) {
		if p.reason == "" {
			set(typ, api.True, reason, "")
		} else {
			set(typ, api.False, p.reason, p.message)
		}
	}
	yes(condResolved, v.resolved, "Resolved")
	if v.want == nil {
		set(condModules, api.Unknown, v.resolved.reason, "what it needs is not known")
	} else {
		yes(condModules, v.compiled, "Compiled")
	}
	programmed := programmedProblem(c, v, seen, down)
	yes(condProgrammed, programmed, "Active")
	ready := cmpProblem(v.resolved, v.compiled, v.held, programmed)
	yes(api.Ready, ready, "Active")
	switch {
	case !s.Active:
		set(api.Degraded, api.False, "NotRunning", "")
	case ready.reason == "":
		set(api.Degraded, api.False, "AsDesired", "")
	default:
		set(api.Degraded, api.True, ready.reason, ready.message)
	}
	switch {
	case ready.reason == "":
		set(api.Progressing, api.False, "Done", "")
	case v.compiled.reason == reasonCompiling || down.reason != "" || ready.reason == reasonPending:
		set(api.Progressing, api.True, ready.reason, ready.message)
	case c.failed.attempts > 0 && c.failed.held:
		set(api.Progressing, api.True, api.WillRetry, fmt.Sprintf("attempt %d failed; it is tried again by itself", c.failed.attempts))
	default:
		set(api.Progressing, api.False, "WaitingForChange", ready.message)
	}
	return s
}

// version returns the version under which a module of the chain is stored, "" when
// that is not known.
func (v *verdict) version(c *chain, function, digest string) string {
	h := hop{function, digest}
	if name := v.names[h]; name != "" || c.good == nil {
		return name
	}
	return c.good.names[h]
}

// share returns the part of the flows that are to meet a version on trial, in
// percent.
func (v *verdict) share(function, digest string) int {
	if v.sent != nil {
		for _, y := range v.sent.chain.Canaries {
			if y.Function == function && y.Code == digest {
				return y.Percent
			}
		}
	}
	return 0
}

// programmedProblem says why the data plane does not run what was sent to it.
func programmedProblem(c *chain, v verdict, seen *plane.ChainStatus, down problem) problem {
	switch {
	case down.reason != "":
		return down
	case v.sent == nil && c.failed.reason != "":
		return c.failed.problem
	case v.sent == nil:
		return problem{"NotSent", "nothing of it can run yet"}
	case seen == nil:
		return problem{reasonPending, "the data plane has not taken it in yet"}
	case seen.Reason != "":
		return problem{seen.Reason, seen.Message}
	case !v.sent.runs(seen):
		return problem{reasonOtherVersion, "the data plane runs another version of it"}
	}
	return problem{}
}

// cmpProblem returns the first problem that is one.
func cmpProblem(ps ...problem) problem {
	for _, p := range ps {
		if p.reason != "" {
			return p
		}
	}
	return problem{}
}

// sameStatus says whether two statuses differ in nothing but when.
func sameStatus(a, b *api.ChainStatus) bool {
	return a.ObservedGeneration == b.ObservedGeneration && a.Active == b.Active &&
		slices.Equal(a.Functions, b.Functions) && slices.Equal(a.Conditions, b.Conditions)
}

// writeChain writes a chain's status if it changed, and tells of transitions.
func (r *Reconciler) writeChain(t *tenant, c *chain, v verdict, seen *plane.ChainStatus, down problem, now time.Time) {
	s := chainStatus(c, v, seen, down, now)
	if c.written != nil && sameStatus(&s, &c.status) {
		return
	}
	s.UpdatedAt = now.UTC()
	was, is := c.status.Conditions.Find(api.Ready), s.Conditions.Find(api.Ready)
	c.status = s
	r.writeStatus(t.status, api.StatusKey(api.BucketChains, c.name), &s, &c.written)
	waiting := is.Reason == reasonCompiling || is.Reason == reasonPending
	if waiting || was != nil && was.Status == is.Status && was.Reason == is.Reason {
		return
	}
	text := "chain " + c.name + " is ready"
	if is.Status != api.True {
		text = "chain " + c.name + ": " + is.Message
	}
	r.event(level(is.Status == api.True), is.Reason, c.tenant, c.name, text)
}

func level(good bool) string {
	if good {
		return "info"
	}
	return "warning"
}

// event tells an operator what happened.
func (r *Reconciler) event(level, reason, tenant, chain, text string) {
	r.opts.Event(api.Event{Time: r.now().UTC(), Kind: "control", Reason: cmp.Or(reason, "Changed"), Level: level, Tenant: tenant, Chain: chain, Text: text})
}

// writeFunctions writes the statuses of a tenant's versions and aliases that
// changed.
func (r *Reconciler) writeFunctions(t *tenant, now time.Time) {
	aliases := map[string][]string{}
	t.index.Aliases(func(key string, a *api.Alias) {
		target := a.Spec.Function + "/" + a.Spec.Version
		aliases[target] = append(aliases[target], a.Metadata.Name)
		s := &api.AliasStatus{Digest: a.Status.Digest, History: a.Status.History}
		if old := t.aliases[key]; old != nil {
			s.Conditions = slices.Clone(old.Conditions)
		}
		c := api.Condition{Type: api.Ready, Status: api.True, Reason: "Resolved", LastTransitionTime: now.UTC(), ObservedGeneration: a.Metadata.Generation}
		if res, err := t.index.Resolve(a.Spec.Function + "@" + a.Metadata.Name); err != nil {
			c.Status, c.Reason, c.Message = api.False, reasonFunction, err.Error()
		} else {
			s.Digest = res.Function.Spec.Digest
		}
		s.Conditions.Set(c)
		t.aliases[key] = s
		r.writeIfNew(t, api.StatusKey(api.BucketAliases, key), s)
	})
	t.index.Versions(func(key string, f *api.Function) {
		s := &api.FunctionStatus{Aliases: aliases[key]}
		slices.Sort(s.Aliases)
		if old := t.functions[key]; old != nil {
			s.Conditions = slices.Clone(old.Conditions)
		}
		s.Conditions.Set(r.versionReady(t, f, now))
		t.functions[key] = s
		r.writeIfNew(t, api.StatusKey(api.BucketFunctions, key), s)
	})
	t.stale = false
}

// versionReady says whether a version is compiled, and has it compiled ahead of
// time. One that is not trusted stays as it is: nothing of it is compiled.
func (r *Reconciler) versionReady(t *tenant, f *api.Function, now time.Time) api.Condition {
	c := api.Condition{Type: api.Ready, Status: api.False, LastTransitionTime: now.UTC(), ObservedGeneration: f.Metadata.Generation}
	if t.object.Spec.RequireSigned {
		if err := t.index.Trust(f); err != nil {
			c.Reason, c.Message = reasonSignature, err.Error()
			return c
		}
	}
	digest := trim(f.Spec.Digest)
	r.modules.want(digest, t.object.Metadata.Name, false, now)
	switch mod := r.modules.all[digest]; {
	case mod.state >= moduleBuilt:
		c.Status, c.Reason = api.True, "Compiled"
	case mod.err != nil:
		c.Reason, c.Message = reasonCompile, mod.err.Error()
	default:
		c.Reason, c.Message = reasonCompiling, "it is being compiled"
	}
	return c
}

// writeIfNew has a status written that the store does not have.
func (r *Reconciler) writeIfNew(t *tenant, key string, status any) {
	var written []byte
	if t.status != nil {
		if e, err := t.status.Get(key); err == nil {
			written = e.Value
		}
	}
	r.writeStatus(t.status, key, status, &written)
}
