package main

import (
	"fmt"
	"strings"
	"sync"
	"time"
)

// progress is a line on the terminal that says how far a command is. Nothing
// is shown when stderr is not a terminal.
type progress struct {
	e    env
	unit string // what is counted
	mu   sync.Mutex
	next time.Time
	on   bool
}

func newProgress(e env, unit string) *progress { return &progress{e: e, unit: unit} }

// barWidth is the width of the bar in characters.
const barWidth = 30

// show says that so many of total are done (total 0: unknown). It writes at
// most ten times a second.
func (p *progress) show(done, total int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if now.Before(p.next) || !p.e.isTerminal(p.e.stderr) {
		return
	}
	p.next = now.Add(100 * time.Millisecond)
	p.on = true
	if total == 0 {
		fmt.Fprintf(p.e.stderr, "\r%d %s", done, p.unit)
		return
	}
	total = max(total, done) // an estimate may be too low
	full := min(barWidth, barWidth*done/total)
	fmt.Fprintf(p.e.stderr, "\r[%s%s] %d of %d %s", strings.Repeat("#", full), strings.Repeat(".", barWidth-full), done, total, p.unit)
}

// above writes a line to stderr, above the progress if that is shown.
func (p *progress) above(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wipe()
	fmt.Fprintf(p.e.stderr, format, args...)
}

// clear wipes the line.
func (p *progress) clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wipe()
}

func (p *progress) wipe() {
	if p.on {
		fmt.Fprintf(p.e.stderr, "\r%s\r", strings.Repeat(" ", barWidth+40))
		p.on = false
	}
}
