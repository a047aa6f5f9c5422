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
	mu   sync.Mutex
	next time.Time
	on   bool
}

func newProgress(e env) *progress { return &progress{e: e} }

// barWidth is the width of the bar in characters.
const barWidth = 30

// show says that done of total packets have their fate (total 0: unknown).
// It writes at most ten times a second.
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
		fmt.Fprintf(p.e.stderr, "\r%d packets", done)
		return
	}
	full := min(barWidth, barWidth*done/total)
	fmt.Fprintf(p.e.stderr, "\r[%s%s] %d of %d packets", strings.Repeat("#", full), strings.Repeat(".", barWidth-full), done, total)
}

// clear wipes the line.
func (p *progress) clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.on {
		fmt.Fprintf(p.e.stderr, "\r%s\r", strings.Repeat(" ", barWidth+40))
		p.on = false
	}
}
