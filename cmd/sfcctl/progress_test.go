package main

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"time"
)

func TestProgress(t *testing.T) {
	var screen bytes.Buffer
	terminal := true
	p := newProgress(env{stderr: &screen, isTerminal: func(io.Writer) bool { return terminal }}, "packets")
	shown := func() string {
		defer screen.Reset()
		p.next = time.Time{}
		return screen.String()
	}
	p.show(50, 200)
	if got := shown(); got != "\r["+strings.Repeat("#", 7)+strings.Repeat(".", 23)+"] 50 of 200 packets" {
		t.Errorf("%q", got)
	}
	p.show(300, 200) // the total was an estimate
	if got := shown(); got != "\r["+strings.Repeat("#", 30)+"] 300 of 300 packets" {
		t.Errorf("%q", got)
	}
	p.above("hello\n")
	if got := shown(); !strings.HasPrefix(got, "\r  ") || !strings.HasSuffix(got, "\rhello\n") {
		t.Errorf("%q", got)
	}
	p.clear()
	if got := shown(); got != "" {
		t.Errorf("cleared twice: %q", got)
	}
	p.show(7, 0)
	if got := shown(); got != "\r7 packets" {
		t.Errorf("%q", got)
	}
	p.show(8, 0)
	screen.Reset()
	p.show(9, 0)
	if got := shown(); got != "" {
		t.Errorf("shown twice in a tenth of a second: %q", got)
	}
	p.clear()
	screen.Reset()
	terminal = false
	p.show(10, 20)
	p.above("line\n")
	if got := shown(); got != "line\n" {
		t.Errorf("%q without a terminal", got)
	}
}
