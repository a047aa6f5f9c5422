package main

import (
	"strings"
	"testing"
)

// A run as the go command reports it, shortened.
const events = `{"Action":"start","Package":"p"}
{"Action":"run","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestA","Output":"noise\n"}
{"Action":"run","Package":"p","Test":"TestA/one"}
{"Action":"pass","Package":"p","Test":"TestA/one","Elapsed":0.1}
{"Action":"run","Package":"p","Test":"TestA/two"}
{"Action":"output","Package":"p","Test":"TestA/two","Output":"=== RUN   TestA/two\n"}
{"Action":"output","Package":"p","Test":"TestA/two","Output":"    a_test.go:7: gate root: needs root, runs as uid 7\n"}
{"Action":"output","Package":"p","Test":"TestA/two","Output":"    --- SKIP: TestA/two (0.00s)\n"}
{"Action":"skip","Package":"p","Test":"TestA/two","Elapsed":0}
{"Action":"pass","Package":"p","Test":"TestA","Elapsed":0.1}
{"Action":"skip","Package":"p","Test":"TestB","Elapsed":0}
{"Action":"pass","Package":"p","Elapsed":1.25}
go: something the go command says
{"Action":"fail","Package":"q","Test":"TestC/in","Elapsed":0}
{"Action":"output","Package":"q","Test":"TestC/in","Output":"    q_test.go:1: broken\n"}
{"Action":"fail","Package":"q","Test":"TestC","Elapsed":0}
{"Action":"fail","Package":"q","Elapsed":0.5}
{"ImportPath":"r","Action":"build-output","Output":"r.go:1:1: syntax error\n"}
{"ImportPath":"r","Action":"build-fail"}
{"Action":"fail","Package":"r","Elapsed":0,"FailedBuild":"r"}
{"Action":"pass","Package":"s","Test":"TestD","Elapsed":0}
{"Action":"output","Package":"s","Output":"leaked: 1 file\n"}
{"Action":"fail","Package":"s","Elapsed":0}
{"Action":"skip","Package":"t","Elapsed":0}
`

const want = `ok       p 1.2s
go: something the go command says
FAIL     q 0.5s
FAIL     r 0.0s
FAIL     s 0.0s
no tests t 0.0s

failed: q TestC/in
      q_test.go:1: broken

failed: r 
  r.go:1:1: syntax error

failed: s 
  leaked: 1 file

skipped:
  gate root: needs root, runs as uid 7 (1)
    p TestA/two
  no reason given (1)
    p TestB

2 passed, 3 failed, 2 skipped
`

func TestSummary(t *testing.T) {
	s := newSummary()
	var out strings.Builder
	if err := s.read(strings.NewReader(events), &out); err != nil {
		t.Fatal(err)
	}
	if s.print(&out) {
		t.Error("a run with failures counts as good")
	}
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}
}

func TestSummaryGoodAndEmpty(t *testing.T) {
	for in, good := range map[string]bool{
		`{"Action":"pass","Package":"p","Test":"TestA"}`: true,
		`{"Action":"skip","Package":"p","Test":"TestA"}`: false, // nothing ran
		"": false,
	} {
		s := newSummary()
		var out strings.Builder
		if err := s.read(strings.NewReader(in), &out); err != nil {
			t.Fatal(err)
		}
		if got := s.print(&out); got != good {
			t.Errorf("%s: good is %v, want %v", in, got, good)
		}
	}
}
