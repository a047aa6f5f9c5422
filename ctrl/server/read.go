package server

import (
	"errors"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"sfc/ctrl/api"
)

// Pages of lists.
const (
	defaultPage = 500
	maxPage     = 1000
)

// decode reads the body of a request, which is JSON.
func (r *request) decode(to any) error {
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || media != string(api.BodyJSON) {
		return api.NewProblem(http.StatusUnsupportedMediaType, api.ReasonInvalid, "the body must be sent as %s", api.BodyJSON)
	}
	if r.ContentLength > r.s.limits.Body {
		return tooLarge(r.s.limits.Body)
	}
	data, err := r.body(r.s.limits.Body)
	if err != nil {
		return err
	}
	if errs := api.Decode(data, to); len(errs) > 0 {
		p := api.Invalid(errs...)
		if errs[0].Field == "" {
			p.Status, p.Title = http.StatusBadRequest, http.StatusText(http.StatusBadRequest)
		}
		return p
	}
	return nil
}

// body reads a small body, within its time.
func (r *request) body(limit int64) ([]byte, error) {
	r.within(r.s.limits.Read)
	data, err := io.ReadAll(http.MaxBytesReader(r.w, r.Body, limit))
	if err == nil {
		r.taken = true
		r.within(0)
		return data, nil
	}
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return nil, err
	}
	return nil, api.NewProblem(http.StatusRequestTimeout, api.ReasonInvalid, "the body did not come: %v", err)
}

// within bounds the time for what is read of the body from now on; 0 takes the
// bound away, since a connection without one is told when the client goes.
func (r *request) within(d time.Duration) {
	var at time.Time
	if d > 0 {
		at = time.Now().Add(d)
	}
	if err := r.ctl.SetReadDeadline(at); err != nil {
		r.s.log.Debug("a request cannot be bounded in time", "request", r.id, "err", err)
	}
}

// get answers with an object.
func (k *kind[T, P]) get(r *request) (*answer, error) {
	o, _, err := k.find(r)
	if err != nil {
		return nil, err
	}
	_, m := o.Header()
	return &answer{body: o, header: etag(m)}, nil
}

// list answers with a page of objects, or with a stream of changes.
func (k *kind[T, P]) list(r *request) (*answer, error) {
	watch, err := r.flag("watch")
	if err != nil {
		return nil, err
	}
	if watch {
		return k.watch(r)
	}
	limit, err := r.number("limit", defaultPage, maxPage)
	if err != nil {
		return nil, err
	}
	list := api.List[T]{Items: []T{}}
	return &answer{body: &list}, k.page(r, &list, int(limit), r.URL.Query().Get("continue"))
}

// page reads a page. A continue token is the revision of what was observed when
// the first page was read, a dot, and the store's token.
func (k *kind[T, P]) page(r *request, list *api.List[T], limit int, cont string) error {
	bucket, err := k.open(r)
	if err != nil {
		return err
	}
	statuses, err := k.statuses(r)
	if err != nil {
		return err
	}
	at := cursor{status: statuses.Revision()}
	if cont != "" {
		status, rest, ok := strings.Cut(cont, ".")
		if at.status, err = strconv.ParseUint(status, 10, 64); err != nil || !ok || rest == "" {
			return badRequest("continue: %.60q is not from a page of this list", cont)
		}
		cont = rest
	}
	page, err := bucket.List(k.keyPrefix(r), limit, cont)
	if err != nil {
		return err
	}
	for _, e := range page.Entries {
		o, err := k.read(r, e, statuses)
		if err != nil {
			return err
		}
		if k.visible == nil || k.visible(r, o) {
			list.Items = append(list.Items, *o)
		}
	}
	at.spec = page.Revision
	list.Metadata.ResourceVersion = at.String()
	if page.Continue != "" {
		list.Metadata.Continue = strconv.FormatUint(at.status, 10) + "." + page.Continue
	}
	return nil
}

// number reads a query parameter between 0 and most.
func (r *request) number(name string, def, most uint64) (uint64, error) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return def, nil
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil || n > most || n == 0 && name == "limit" {
		return 0, badRequest("%s: %.40q is not a number up to %d", name, text, most)
	}
	return n, nil
}

// flag reads a query parameter that is true or false.
func (r *request) flag(name string) (bool, error) {
	switch text := r.URL.Query().Get(name); text {
	case "", "false", "0":
		return false, nil
	case "true", "1":
		return true, nil
	default:
		return false, badRequest("%s: %.40q is neither true nor false", name, text)
	}
}
