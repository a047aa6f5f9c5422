package nf

import (
	"fmt"
	"slices"
	"strings"
)

// suggest returns the cure for an unknown name: the one it was probably meant
// to be, or the list of those that exist.
func suggest(name string, known []string) string {
	known = slices.Sorted(slices.Values(known))
	best, least := "", 1+min(len(name)/3, 3)
	for _, k := range known {
		if d := distance(strings.ToLower(name), strings.ToLower(k), least); d <= least && (best == "" || d < least) {
			best, least = k, d
		}
	}
	switch {
	case best != "":
		return fmt.Sprintf("did you mean %q?", best)
	case len(known) == 0:
		return "there are none"
	case len(known) > 20:
		return "known: " + strings.Join(known[:20], ", ") + ", ..."
	}
	return "known: " + strings.Join(known, ", ")
}

// distance returns how many insertions, deletions and replacements turn a into
// b, or some number above most if they are more than that apart.
func distance(a, b string, most int) int {
	if len(a)-len(b) > most || len(b)-len(a) > most {
		return most + 1
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}
