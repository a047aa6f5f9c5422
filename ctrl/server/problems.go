package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"sfc/chains"
	"sfc/ctrl/api"
	"sfc/ctrl/store"
)

// notFound is the answer for whatever is not there, and for whatever the caller
// must not know to be there. It says nothing that differs between the two.
func notFound() *api.Problem {
	return api.NewProblem(http.StatusNotFound, api.ReasonNotFound, "there is nothing of this name")
}

func badRequest(format string, args ...any) *api.Problem {
	return api.NewProblem(http.StatusBadRequest, api.ReasonInvalid, format, args...)
}

// asProblem turns an error into what the client is told. internal says that it
// is told nothing but where to look.
func asProblem(err error) (p *api.Problem, internal bool) {
	if found, ok := errors.AsType[*api.Problem](err); ok {
		own := *found // problems may be shared: they get a request's id
		return &own, false
	}
	if conflict, ok := errors.AsType[*store.ConflictError](err); ok {
		return conflictWith(conflict.Have), false
	}
	if quota, ok := errors.AsType[*store.QuotaError](err); ok {
		return api.NewProblem(http.StatusForbidden, api.ReasonQuota,
			"%d %s are used and %d would be added: %d are allowed; delete something", quota.Used, quota.Resource, quota.Add, quota.Limit), false
	}
	if large, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return tooLarge(large.Limit), false
	}
	for _, known := range []struct {
		is     error
		status int
		reason string
		detail string
	}{
		{store.ErrNotFound, http.StatusNotFound, api.ReasonNotFound, notFound().Detail},
		{store.ErrExists, http.StatusConflict, api.ReasonExists, "it exists already"},
		{store.ErrConflict, http.StatusConflict, api.ReasonConflict, "it was changed meanwhile: read it again"},
		{store.ErrExpired, http.StatusGone, api.ReasonExpired, "what is asked for is no longer kept: list again"},
		{store.ErrTooLarge, http.StatusRequestEntityTooLarge, api.ReasonTooLarge, ""},
		{store.ErrDigest, http.StatusUnprocessableEntity, api.ReasonRejected, ""},
		{store.ErrName, http.StatusUnprocessableEntity, api.ReasonInvalid, ""},
		{store.ErrFull, http.StatusInsufficientStorage, api.ReasonStorage, "the daemon's disk is full: make room"},
		{store.ErrReadOnly, http.StatusInsufficientStorage, api.ReasonStorage, "the daemon's disk cannot be written"},
		{store.ErrDamaged, http.StatusServiceUnavailable, api.ReasonUnavailable, "this part of the store is damaged and out of service"},
		{store.ErrUnavailable, http.StatusServiceUnavailable, api.ReasonUnavailable, "the store did not answer in time; whether it took the change is unknown: read, and try again"},
		{store.ErrClosed, http.StatusServiceUnavailable, api.ReasonUnavailable, "the daemon ends, or the tenant was deleted"},
		{context.DeadlineExceeded, http.StatusServiceUnavailable, api.ReasonUnavailable, "it took too long: try again"},
		{context.Canceled, http.StatusServiceUnavailable, api.ReasonUnavailable, "the request was given up"},
	} {
		if errors.Is(err, known.is) {
			if known.detail == "" {
				known.detail = err.Error()
			}
			return api.NewProblem(known.status, known.reason, "%s", known.detail), false
		}
	}
	return api.NewProblem(http.StatusInternalServerError, api.ReasonInternal, "something went wrong in the daemon: its log says what, by the request's id"), true
}

func conflictWith(revision uint64) *api.Problem {
	var m api.Metadata
	m.SetRevision(revision)
	p := api.NewProblem(http.StatusConflict, api.ReasonConflict, "it was changed meanwhile and has resourceVersion %s: read it again", m.ResourceVersion)
	p.ResourceVersion = m.ResourceVersion
	return p
}

func tooLarge(limit int64) *api.Problem {
	return api.NewProblem(http.StatusRequestEntityTooLarge, api.ReasonTooLarge, "the body is larger than %d bytes", limit)
}

// chainProblems tells what is wrong with a chain by the fields of its file.
func chainProblems(err error) error {
	problems, ok := errors.AsType[chains.Problems](err)
	if !ok {
		return fmt.Errorf("read a chain: %w", err)
	}
	fields := make([]api.FieldError, len(problems))
	for i, p := range problems {
		fields[i] = api.At(p.Field, "%s; %s", p.What, p.Cure)
	}
	return api.Invalid(fields...)
}
