package server

import (
	"fmt"
	"net/http"
	"time"

	"sfc/ctrl/api"
)

// slowDown is a refusal to answer so often.
type slowDown struct {
	problem *api.Problem
	wait    time.Duration
}

func (e *slowDown) Error() string { return e.problem.Error() }
func (e *slowDown) Unwrap() error { return e.problem }

// seconds is the time to wait, rounded up, at least one.
func (e *slowDown) seconds() int { return max(1, int((e.wait+time.Second-1)/time.Second)) }

func tooMany(wait time.Duration, format string, args ...any) error {
	return &slowDown{api.NewProblem(http.StatusTooManyRequests, api.ReasonRate, "%s: try again later", fmt.Sprintf(format, args...)), wait}
}

// admit finds out who asks, whether they ask too often, and whether they may.
func (r *request) admit() error {
	if r.route.Scope == api.Public {
		return r.rate("from:"+r.from, r.s.limits.Rate, r.s.limits.Burst)
	}
	if err := r.identify(); err != nil {
		return err
	}
	if !r.who.root {
		if err := r.rate(r.who.name, r.s.limits.Rate, r.s.limits.Burst); err != nil {
			return err
		}
	}
	if r.who.calls > 0 {
		if err := r.rate("tenant:"+r.who.tenant, r.who.calls, 2*r.who.calls); err != nil {
			return err
		}
	}
	return r.permit()
}

func (r *request) rate(who string, rate, burst int) error {
	if wait := r.s.rates.take(who, rate, burst, time.Now()); wait > 0 {
		return tooMany(wait, "%s made more than %d requests a second", who, rate)
	}
	return nil
}

// identify finds out who asks: by the token, or else by the unix socket.
func (r *request) identify() error {
	secret, has := bearer(r.Request)
	p, _ := r.Context().Value(connKey{}).(*peer)
	if !has {
		if p != nil && p.who != nil {
			r.who = p.who
			return nil
		}
		if err := r.stranger(); err != nil {
			return err
		}
		return api.NewProblem(http.StatusUnauthorized, api.ReasonUnauthorized, "who are you? Send a token, or use the unix socket as a user who may")
	}
	who, err := r.s.tokens.check(r.Context(), secret)
	if err != nil {
		if wait := r.stranger(); wait != nil {
			return wait
		}
		return err
	}
	r.who = who
	return nil
}

// stranger counts an attempt to come in that failed.
func (r *request) stranger() error {
	return r.rate("stranger:"+r.from, r.s.limits.Strangers, 4*r.s.limits.Strangers)
}

// permit says whether the caller may do what is asked. A tenant that is not the
// caller's is as one that does not exist, which is looked up all the same, so
// that both take the same time.
func (r *request) permit() error {
	who := r.who
	forbidden := api.NewProblem(http.StatusForbidden, api.ReasonForbidden,
		"%s needs the role %s; %s is %s", r.route.Operation, r.route.Role, who.name, who.role)
	switch r.route.Scope {
	case api.OfTenant:
		_, err := r.s.spaces.tenant(r.tenant)
		if who.tenant != "" && who.tenant != r.tenant {
			return notFound()
		}
		if err != nil {
			return err
		}
	case api.OfHost:
		if who.tenant != "" {
			return api.NewProblem(http.StatusForbidden, api.ReasonForbidden, "%s is for those who look after the host; %s is of a tenant", r.route.Operation, who.name)
		}
	}
	if !who.role.Includes(r.route.Role) {
		return forbidden
	}
	return nil
}
