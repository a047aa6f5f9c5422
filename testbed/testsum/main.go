// Command testsum reads the output of "go test -json" from standard input,
// shows what failed and what was skipped with the reasons, and ends with a line
//
//	N passed, N failed, N skipped
//
// A package that fails without a failing test (it does not build, or a leak
// check after the tests failed) counts as one failure. With tests inside tests only the
// innermost count. The exit status is 1 when anything failed or nothing ran.
package main

import (
	"fmt"
	"os"
)

func main() {
	s := newSummary()
	if err := s.read(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "testsum:", err)
		os.Exit(1)
	}
	if !s.print(os.Stdout) {
		os.Exit(1)
	}
}
