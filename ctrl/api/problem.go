package api

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// ProblemType is the media type of a [Problem].
const ProblemType = "application/problem+json"

// Problem says why a request failed (RFC 9457).
type Problem struct {
	// Type is a URI that names the sort of problem; about:blank when the status
	// says it all.
	Type string `json:"type"`
	// Title is the same for all problems of a type.
	Title string `json:"title"`
	// Status is the HTTP status.
	Status int `json:"status"`
	// Detail is what went wrong this time, and what to do about it.
	Detail string `json:"detail,omitzero"`
	// Instance is the path of the request.
	Instance string `json:"instance,omitzero"`
	// RequestID finds the request in the daemon's log and audit log.
	RequestID string `json:"requestId,omitzero"`
	// Reason is one CamelCase word for programs, such as Conflict.
	Reason string `json:"reason,omitzero"`
	// Errors are the fields that are wrong.
	Errors []FieldError `json:"errors,omitzero"`
	// ResourceVersion is what the object has, when the request named another.
	ResourceVersion string `json:"resourceVersion,omitzero"`
}

// FieldError is what is wrong with a field of a request.
type FieldError struct {
	// Pointer is the field as a JSON pointer (RFC 6901), such as
	// /spec/functions/1/fault.
	Pointer string `json:"pointer"`
	// Field is the same for people, such as spec.functions[1].fault.
	Field string `json:"field"`
	// Message is what is wrong, and the cure.
	Message string `json:"message"`
}

// Error returns the field and what is wrong with it.
func (e FieldError) Error() string {
	if e.Field == "" {
		return e.Message
	}
	return e.Field + ": " + e.Message
}

// At makes a FieldError of a field's path, as spec.functions[1].fault.
func At(field, format string, args ...any) FieldError {
	return FieldError{Pointer: pointer(field), Field: field, Message: fmt.Sprintf(format, args...)}
}

// pointer turns a.b[1].c into /a/b/1/c.
func pointer(field string) string {
	if field == "" {
		return ""
	}
	var p strings.Builder
	for part := range strings.SplitSeq(strings.ReplaceAll(field, "[", "."), ".") {
		part = strings.TrimSuffix(part, "]")
		p.WriteByte('/')
		p.WriteString(strings.NewReplacer("~", "~0", "/", "~1").Replace(part))
	}
	return p.String()
}

// Error returns the detail and every field.
func (p *Problem) Error() string {
	var s strings.Builder
	s.WriteString(strings.ToLower(p.Title))
	if p.Detail != "" {
		s.WriteString(": ")
		s.WriteString(p.Detail)
	}
	for _, e := range p.Errors {
		s.WriteString("\n  ")
		s.WriteString(e.Error())
	}
	return s.String()
}

// Problems by reason, the ones that clients look for.
const (
	ReasonInvalid      = "Invalid"
	ReasonUnauthorized = "Unauthorized"
	ReasonForbidden    = "Forbidden"
	ReasonNotFound     = "NotFound"
	ReasonExists       = "AlreadyExists"
	ReasonConflict     = "Conflict"
	ReasonInUse        = "InUse"
	ReasonExpired      = "Expired"
	ReasonTooLarge     = "TooLarge"
	ReasonQuota        = "QuotaExceeded"
	ReasonRate         = "TooManyRequests"
	ReasonUnsigned     = "SignatureRequired"
	ReasonRejected     = "ModuleRejected"
	ReasonUnavailable  = "Unavailable"
	ReasonStorage      = "StorageFull"
	ReasonInternal     = "Internal"
)

// NewProblem makes a problem of a status and a reason.
func NewProblem(status int, reason, format string, args ...any) *Problem {
	return &Problem{
		Type: "about:blank", Title: http.StatusText(status), Status: status,
		Reason: reason, Detail: fmt.Sprintf(format, args...),
	}
}

// Invalid makes a problem of fields that are wrong.
func Invalid(errs ...FieldError) *Problem {
	p := NewProblem(http.StatusUnprocessableEntity, ReasonInvalid, "%d fields are wrong", len(errs))
	if len(errs) == 1 {
		p.Detail = errs[0].Error()
	}
	p.Errors = errs
	return p
}

// IsReason says whether an error is a problem with a reason.
func IsReason(err error, reason string) bool {
	p, ok := errors.AsType[*Problem](err)
	return ok && p.Reason == reason
}
