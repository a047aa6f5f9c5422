package chains

import (
	"fmt"
	"strings"
)

// suggest is the cure for a name that is not one of known: the nearest, if one
// is near, and the whole list.
func suggest(name string, known []string) string {
	list := "known: " + strings.Join(known, ", ")
	if len(known) == 0 {
		return "none is known"
	}
	best, bestDist := "", max(1, min(len(name), 64)/3)+1
	for _, k := range known {
		if d := editDistance(strings.ToLower(name), strings.ToLower(k)); d < bestDist {
			best, bestDist = k, d
		}
	}
	if best == "" {
		return list
	}
	return fmt.Sprintf("did you mean %q? (%s)", best, list)
}

// editDistance is the number of insertions, deletions, replacements and swaps
// of neighbours that turn a into b (optimal string alignment). It looks at the
// first 64 bytes.
func editDistance(a, b string) int {
	a, b = a[:min(len(a), 64)], b[:min(len(b), 64)]
	var before, last, row [65]int
	for j := range len(b) + 1 {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			replace := last[j-1]
			if a[i-1] != b[j-1] {
				replace++
			}
			row[j] = min(replace, last[j]+1, row[j-1]+1)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last = last, row
	}
	return last[len(b)]
}
