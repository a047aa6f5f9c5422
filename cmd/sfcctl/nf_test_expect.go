package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"sfc/testbed/replay"
)

// expectation is what a report must say. Fields that are absent are not
// compared.
type expectation struct {
	file string

	Sent     *uint64 `json:"sent"`
	Received *uint64 `json:"received"`
	Passed   *uint64 `json:"passed"`
	// Dropped holds every reason there may be; Counters some of the
	// function's.
	Dropped  map[string]uint64 `json:"dropped"`
	Counters map[string]uint64 `json:"counters"`
}

// expectMax is the longest expectation file in bytes.
const expectMax = 1 << 20

// loadExpectation reads the file strictly: a misspelt field would never fail.
func loadExpectation(path string) (_ *expectation, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("--expect: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	text, err := io.ReadAll(io.LimitReader(f, expectMax))
	if err != nil {
		return nil, fmt.Errorf("--expect: %w", err)
	}
	x := &expectation{file: path}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(x); err != nil {
		return nil, fmt.Errorf("--expect %s: %w; it is an object with numbers sent, received, passed and objects dropped and counters", path, err)
	}
	if x.Sent == nil && x.Received == nil && x.Passed == nil && x.Dropped == nil && x.Counters == nil {
		return nil, fmt.Errorf("--expect %s expects nothing: give at least one of sent, received, passed, dropped, counters", path)
	}
	return x, nil
}

// compare says where a report differs from what was expected.
func (x *expectation) compare(rep *replay.Report) error {
	var diff []string
	number := func(name string, want, got uint64) {
		if want != got {
			diff = append(diff, fmt.Sprintf("%s: expected %d, got %d", name, want, got))
		}
	}
	for _, f := range []struct {
		name string
		want *uint64
		got  uint64
	}{{"sent", x.Sent, rep.Sent}, {"received", x.Received, rep.Received}, {"passed", x.Passed, rep.Passed}} {
		if f.want != nil {
			number(f.name, *f.want, f.got)
		}
	}
	if x.Dropped != nil {
		reasons := maps.Clone(x.Dropped)
		for r := range rep.Dropped {
			reasons[r] = x.Dropped[r]
		}
		for _, r := range slices.Sorted(maps.Keys(reasons)) {
			number("dropped "+r, reasons[r], rep.Dropped[r])
		}
	}
	counters := map[string]uint64{}
	for _, f := range rep.Functions {
		maps.Copy(counters, f.Counters)
	}
	for _, name := range slices.Sorted(maps.Keys(x.Counters)) {
		if _, ok := counters[name]; !ok {
			diff = append(diff, fmt.Sprintf("counter %s: the function has none of that name; it has %s", name, sortedKeys(counters)))
			continue
		}
		number("counter "+name, x.Counters[name], counters[name])
	}
	if len(diff) == 0 {
		return nil
	}
	return fmt.Errorf("not as %s expects:\n  %s", x.file, strings.Join(diff, "\n  "))
}
