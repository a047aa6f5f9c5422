package chains

import (
	"fmt"
	"slices"
	"strings"
)

// Problem is one thing wrong with a chain file.
type Problem struct {
	File string
	// Line and Column count from 1. Column is 0 when only the line is known,
	// both are 0 when the whole file is meant.
	Line, Column int
	// Field is the path of the field, such as spec.functions[1].fault.
	Field string
	// What is wrong, with the value.
	What string
	// Cure says what to write instead.
	Cure string
}

// Error returns the problem in one line: position, field, what, cure.
func (p *Problem) Error() string {
	var s strings.Builder
	s.WriteString(p.File)
	if p.Line > 0 {
		fmt.Fprintf(&s, ":%d", p.Line)
	}
	if p.Column > 0 {
		fmt.Fprintf(&s, ":%d", p.Column)
	}
	for _, part := range []string{p.Field, p.What} {
		if part != "" {
			s.WriteString(": ")
			s.WriteString(part)
		}
	}
	if p.Cure != "" {
		s.WriteString("; ")
		s.WriteString(p.Cure)
	}
	return s.String()
}

// maxProblems bounds what is reported of one file.
const maxProblems = 20

// Problems are all things wrong with a chain file, in order of position.
type Problems []*Problem

// Error returns one line per problem.
func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap makes errors.As find a [*Problem].
func (ps Problems) Unwrap() []error {
	errs := make([]error, len(ps))
	for i, p := range ps {
		errs[i] = p
	}
	return errs
}

// err returns the problems as an error, nil when there are none.
func (ps Problems) err() error {
	if len(ps) == 0 {
		return nil
	}
	slices.SortStableFunc(ps, func(a, b *Problem) int {
		if a.Line != b.Line {
			return a.Line - b.Line
		}
		return a.Column - b.Column
	})
	return ps
}

// quote shows a value from a file in an error, cut to a bearable length.
func quote(s string) string {
	const longest = 60
	if r := []rune(s); len(r) > longest {
		return fmt.Sprintf("%q...", string(r[:longest]))
	}
	return fmt.Sprintf("%q", s)
}
