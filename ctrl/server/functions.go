package server

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"sfc/ctrl/api"
	"sfc/ctrl/store"
)

// maxSource is the longest provenance that an uploader may give, in bytes.
const maxSource = 1024

// putFunction takes a module in as it comes: nothing of it is kept in memory
// here. What is too large is refused before any of it is read, if its length was
// said.
func (s *Server) putFunction(r *request) (*answer, error) {
	d, err := r.deployment()
	if err != nil {
		return nil, err
	}
	release, err := r.change(r.tenant, true)
	if err != nil {
		return nil, err
	}
	defer release()
	tenant, err := s.spaces.tenant(r.tenant)
	if err != nil {
		return nil, err
	}
	d.Quota, d.MaxSize = tenant.Spec, s.limits.Module
	if quota := int64(tenant.Spec.ModuleBytes); quota > 0 {
		d.MaxSize = min(d.MaxSize, quota)
	}
	if r.ContentLength > d.MaxSize {
		return nil, tooLarge(d.MaxSize)
	}
	if r.ContentLength == 0 {
		return nil, badRequest("the body must be a module: it is empty")
	}
	body := &upload{r: r, from: http.MaxBytesReader(r.w, r.Body, d.MaxSize), until: time.Now().Add(s.limits.Upload)}
	f, created, err := s.opts.Functions.Deploy(r.Context(), r.tenant, d, body)
	if err != nil {
		if body.failed != nil {
			err = body.failed // why the function store could not read on
		}
		return nil, err
	}
	r.within(0)
	status := http.StatusOK
	if created {
		status = http.StatusCreated
	}
	f.Type = api.Type{APIVersion: api.Version, Kind: f.KindName()}
	return &answer{status: status, body: f, header: etag(&f.Metadata)}, nil
}

// deployment reads what path and headers say of a module.
func (r *request) deployment() (d Deploy, err error) {
	d = Deploy{
		Function: r.PathValue("function"), Version: r.PathValue("version"),
		Digest: r.Header.Get("Sfc-Digest"), Source: r.Header.Get("Sfc-Source"), By: r.who.name,
	}
	o := api.Function{Metadata: api.Metadata{Name: d.Function}, Spec: api.FunctionSpec{Version: d.Version}}
	if errs := o.Validate(); len(errs) > 0 {
		return d, api.Invalid(errs...)
	}
	if r.Header.Get("Content-Type") != string(api.BodyWasm) {
		return d, api.NewProblem(http.StatusUnsupportedMediaType, api.ReasonInvalid, "the body must be a module, sent as %s", api.BodyWasm)
	}
	if d.Digest != "" {
		if function, _, ok := api.SplitRef(d.Digest); !ok || function != "" {
			return d, badRequest("Sfc-Digest: %.80q is not sha256: and 64 hexadecimal digits in lower case", d.Digest)
		}
	}
	if len(d.Source) > maxSource {
		return d, badRequest("Sfc-Source: %d bytes are too many: %d are allowed", len(d.Source), maxSource)
	}
	if text := r.Header.Get("Sfc-Signature"); text != "" {
		if d.Signature, err = base64.StdEncoding.Strict().DecodeString(text); err != nil || len(d.Signature) != 64 {
			return d, badRequest("Sfc-Signature: it is no ed25519 signature: 64 bytes in base64 are expected")
		}
	}
	return d, nil
}

// upload reads a body that has a time for each piece, and one for all.
type upload struct {
	r      *request
	from   io.Reader
	until  time.Time
	since  int // bytes since the time was set
	failed error
}

// uploadPiece is how many bytes have one time.
const uploadPiece = 64 << 10

// Read implements io.Reader.
func (u *upload) Read(p []byte) (int, error) {
	if u.since == 0 {
		u.r.within(min(u.r.s.limits.Read, max(time.Until(u.until), time.Nanosecond)))
	}
	n, err := u.from.Read(p)
	if u.since += n; u.since >= uploadPiece {
		u.since = 0
	}
	if err != nil && !errors.Is(err, io.EOF) && u.failed == nil {
		u.failed = err
		if _, large := errors.AsType[*http.MaxBytesError](err); !large {
			u.failed = api.NewProblem(http.StatusRequestTimeout, api.ReasonInvalid, "the module did not come: %v", err)
		}
	}
	return n, err
}

// getModule sends a module.
func (s *Server) getModule(r *request) (*answer, error) {
	if _, _, err := s.functionKind().find(r); err != nil {
		return nil, err
	}
	module, size, err := s.opts.Functions.OpenModule(r.Context(), r.tenant, r.PathValue("function"), r.PathValue("version"))
	if err != nil {
		return nil, err
	}
	return &answer{
		header: http.Header{"Content-Length": {strconv.FormatInt(size, 10)}},
		stream: func(w *streamWriter) error {
			_, err := io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{module}, make([]byte, 256<<10))
			return err
		},
		done: func() {
			if err := module.Close(); err != nil {
				s.log.Warn("a module was not closed", "request", r.id, "err", err)
			}
		},
	}, nil
}

func (s *Server) deleteFunction(r *request) (*answer, error) {
	need, err := r.precondition(nil)
	if err != nil {
		return nil, err
	}
	release, err := r.change(r.tenant, true)
	if err != nil {
		return nil, err
	}
	defer release()
	if _, _, err := s.functionKind().find(r); err != nil {
		return nil, err
	}
	return &answer{}, s.opts.Functions.DeleteVersion(r.Context(), r.tenant, r.PathValue("function"), r.PathValue("version"), need.revision)
}

// putAlias makes or moves an alias.
func (s *Server) putAlias(r *request) (*answer, error) {
	k := s.aliasKind()
	a := &api.Alias{}
	if err := r.decode(a); err != nil {
		return nil, err
	}
	function, name := r.PathValue("function"), r.PathValue("alias")
	for _, said := range []struct{ field, value, path string }{
		{"metadata.name", a.Metadata.Name, name}, {"metadata.tenant", a.Metadata.Tenant, r.tenant}, {"spec.function", a.Spec.Function, function},
	} {
		if said.value != "" && said.value != said.path {
			return nil, api.Invalid(api.At(said.field, "%q is not what the path says: %q", said.value, said.path))
		}
	}
	a.Metadata.Name, a.Metadata.Tenant, a.Spec.Function = name, r.tenant, function
	if errs := a.Validate(); len(errs) > 0 {
		return nil, api.Invalid(errs...)
	}
	need, err := r.precondition(&a.Metadata)
	if err != nil {
		return nil, err
	}
	release, err := r.change(r.tenant, true)
	if err != nil {
		return nil, err
	}
	defer release()
	set, created, err := s.opts.Functions.SetAlias(r.Context(), r.tenant, a, need.revision, need.absent, r.who.name)
	if err != nil {
		return nil, s.aliasConflict(r, k, err)
	}
	status := http.StatusOK
	if created {
		status = http.StatusCreated
	}
	return aliasAnswer(status, set), nil
}

func aliasAnswer(status int, a *api.Alias) *answer {
	a.Type = api.Type{APIVersion: api.Version, Kind: a.KindName()}
	return &answer{status: status, body: a, header: etag(&a.Metadata)}
}

// aliasConflict adds the current version to a conflict that does not tell it.
func (s *Server) aliasConflict(r *request, k *kind[api.Alias, *api.Alias], err error) error {
	if !errors.Is(err, store.ErrConflict) && !errors.Is(err, store.ErrExists) {
		return err
	}
	if _, e, ferr := k.find(r); ferr == nil {
		return conflictWith(e.Revision)
	}
	return err
}

func (s *Server) deleteAlias(r *request) (*answer, error) {
	return s.onAlias(r, func(function, alias string, revision uint64) (*answer, error) {
		return &answer{}, s.opts.Functions.DeleteAlias(r.Context(), r.tenant, function, alias, revision)
	})
}

// moveAlias makes a handler that moves an alias to where its own history or trial
// says.
func (s *Server) moveAlias(move func(ctx context.Context, tenant, function, alias string, revision uint64, by string) (*api.Alias, error)) handler {
	return func(r *request) (*answer, error) {
		return s.onAlias(r, func(function, alias string, revision uint64) (*answer, error) {
			a, err := move(r.Context(), r.tenant, function, alias, revision, r.who.name)
			if err != nil {
				return nil, err
			}
			return aliasAnswer(http.StatusOK, a), nil
		})
	}
}

// collectFunctions removes versions that nothing uses.
func (s *Server) collectFunctions(r *request) (*answer, error) {
	var ask api.Collect
	if err := r.decode(&ask); err != nil {
		return nil, err
	}
	grace, err := ask.Grace()
	if err != nil {
		return nil, err
	}
	release, err := r.change(r.tenant, true)
	if err != nil {
		return nil, err
	}
	defer release()
	c, err := s.opts.Functions.Collect(r.Context(), r.tenant, grace, ask.DryRun)
	if err != nil {
		return nil, err
	}
	return &answer{body: c}, nil
}

// onAlias does something with an alias that is there.
func (s *Server) onAlias(r *request, do func(function, alias string, revision uint64) (*answer, error)) (*answer, error) {
	need, err := r.precondition(nil)
	if err != nil {
		return nil, err
	}
	release, err := r.change(r.tenant, true)
	if err != nil {
		return nil, err
	}
	defer release()
	k := s.aliasKind()
	if _, _, err := k.find(r); err != nil {
		return nil, err
	}
	a, err := do(r.PathValue("function"), r.PathValue("alias"), need.revision)
	if err != nil {
		return nil, s.aliasConflict(r, k, fmt.Errorf("alias: %w", err))
	}
	return a, nil
}
