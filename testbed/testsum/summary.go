package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// event is one line of "go test -json" (see go doc test2json).
type event struct {
	Action     string
	Package    string
	ImportPath string // of build-output
	Test       string
	Elapsed    float64 // seconds
	Output     string
	// FailedBuild names the package whose build failed, on a fail event.
	FailedBuild string
}

// test names a test, or with an empty name a package as a whole.
type test struct{ pkg, name string }

// summary collects what a test run came to.
type summary struct {
	state   map[test]string // pass, fail or skip
	output  map[test][]string
	parents map[test]bool // tests that ran others
	builds  map[string][]string
}

func newSummary() *summary {
	return &summary{state: map[test]string{}, output: map[test][]string{}, parents: map[test]bool{}, builds: map[string][]string{}}
}

// read consumes events and shows each package as it ends. Lines that are not
// JSON are passed on: they come from the go command itself.
func (s *summary) read(r io.Reader, w io.Writer) error {
	in := bufio.NewReader(r)
	for {
		line, err := in.ReadBytes('\n')
		if len(line) > 0 {
			var e event
			if json.Unmarshal(line, &e) != nil {
				fmt.Fprintf(w, "%s\n", strings.TrimRight(string(line), "\n"))
			} else {
				s.add(e, w)
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read events: %w", err)
		}
	}
}

func (s *summary) add(e event, w io.Writer) {
	t := test{e.Package, e.Test}
	switch e.Action {
	case "build-output":
		s.builds[e.ImportPath] = append(s.builds[e.ImportPath], e.Output)
	case "output":
		s.output[t] = append(s.output[t], e.Output)
	case "pass", "fail", "skip":
		s.state[t] = e.Action
		for i, c := range e.Test {
			if c == '/' {
				s.parents[test{e.Package, e.Test[:i]}] = true
			}
		}
		if e.Action == "pass" {
			delete(s.output, t)
		}
		if e.FailedBuild != "" {
			s.output[t] = append(s.builds[e.FailedBuild], s.output[t]...)
		}
		if e.Test == "" {
			note := map[string]string{"pass": "ok", "fail": "FAIL", "skip": "no tests"}[e.Action]
			fmt.Fprintf(w, "%-8s %s %.1fs\n", note, e.Package, e.Elapsed)
		}
	}
}

// print shows failures and skips and returns whether the run was good.
func (s *summary) print(w io.Writer) bool {
	passed := 0
	var failed, skipped []test
	failedPkgs := map[string]bool{}
	for t, state := range s.state {
		switch {
		case t.name == "" || s.parents[t] && state != "fail":
		case state == "pass":
			passed++
		case state == "skip":
			skipped = append(skipped, t)
		case s.parents[t] && s.failedBelow(t):
		default:
			failed = append(failed, t)
			failedPkgs[t.pkg] = true
		}
	}
	for t, state := range s.state {
		if t.name == "" && state == "fail" && !failedPkgs[t.pkg] {
			failed = append(failed, t)
		}
	}
	s.printFailed(w, failed)
	s.printSkipped(w, skipped)
	fmt.Fprintf(w, "\n%d passed, %d failed, %d skipped\n", passed, len(failed), len(skipped))
	return len(failed) == 0 && passed > 0
}

// failedBelow reports whether a test inside t failed: then that one counts.
func (s *summary) failedBelow(t test) bool {
	for u, state := range s.state {
		if state == "fail" && u.pkg == t.pkg && strings.HasPrefix(u.name, t.name+"/") {
			return true
		}
	}
	return false
}

func (s *summary) printFailed(w io.Writer, failed []test) {
	slices.SortFunc(failed, compare)
	for _, t := range failed {
		fmt.Fprintf(w, "\nfailed: %s %s\n", t.pkg, t.name)
		for _, line := range s.output[t] {
			fmt.Fprintf(w, "  %s\n", strings.TrimRight(line, "\n"))
		}
	}
}

// printSkipped groups skipped tests by reason.
func (s *summary) printSkipped(w io.Writer, skipped []test) {
	if len(skipped) == 0 {
		return
	}
	byReason := map[string][]test{}
	for _, t := range skipped {
		r := reason(s.output[t])
		byReason[r] = append(byReason[r], t)
	}
	fmt.Fprintln(w, "\nskipped:")
	for _, r := range slices.Sorted(maps.Keys(byReason)) {
		tests := byReason[r]
		slices.SortFunc(tests, compare)
		fmt.Fprintf(w, "  %s (%d)\n", r, len(tests))
		for _, t := range tests {
			fmt.Fprintf(w, "    %s %s\n", t.pkg, t.name)
		}
	}
}

// reason finds what a test said when it skipped: its last line of output that
// is no frame of the test runner, without the position in the source.
func reason(output []string) string {
	text := "no reason given"
	for _, line := range output {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "===") || strings.HasPrefix(line, "---") {
			continue
		}
		if pos, rest, ok := strings.Cut(line, ": "); ok && strings.Contains(pos, ".go:") {
			line = rest
		}
		text = line
	}
	return text
}

func compare(a, b test) int {
	return strings.Compare(a.pkg+" "+a.name, b.pkg+" "+b.name)
}
