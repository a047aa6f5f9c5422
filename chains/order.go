package chains

import (
	"fmt"
	"slices"

	"sfc/dataplane/classify"
)

// maxConflicts bounds how many overlaps are reported.
const maxConflicts = 20

// order puts all rules in order of precedence: priority, then the order of the
// specs and of the matches in them. Where that order would decide between two
// chains of equal priority, or between the two directions of one, the specs are
// refused: nobody asked for it.
func (c *compilation) order(specs []Spec) {
	byPriority := make([]int, len(specs))
	total := 0
	for i := range specs {
		byPriority[i] = i
		total += len(c.rules[i])
	}
	if total > classify.MaxRules {
		c.errs = append(c.errs, fmt.Errorf("chains have %d match rules together; use at most %d", total, classify.MaxRules))
		return
	}
	slices.SortStableFunc(byPriority, func(a, b int) int { return specs[b].Priority - specs[a].Priority })
	conflicts := 0
	for k, i := range byPriority {
		c.directionsApart(&specs[i], c.rules[i])
		for _, j := range byPriority[:k] {
			if specs[i].Priority != specs[j].Priority || conflicts == maxConflicts {
				continue
			}
			if a, b, found := overlap(c.rules[j], c.rules[i]); found {
				conflicts++
				c.fail(&specs[i], "%v claims packets that %v of chain %s claims too, at the same priority %d; give the chain that shall have them a higher priority",
					b, a, title(&specs[j]), specs[i].Priority)
			}
		}
		for _, r := range c.rules[i] {
			c.plan.Rules = append(c.plan.Rules, r.Rule)
		}
	}
}

// directionsApart refuses a chain one of whose packets could take both ways.
func (c *compilation) directionsApart(s *Spec, rules []rule) {
	back := slices.IndexFunc(rules, func(r rule) bool { return r.from.back })
	if back < 0 {
		return
	}
	if a, b, found := overlap(rules[:back], rules[back:]); found {
		c.fail(s, "%v claims packets that %v claims too, so their direction is not clear; let them differ in port or addresses", b, a)
	}
}

// overlap returns the first pair of rules that one packet can match.
func overlap(as, bs []rule) (a, b matchName, found bool) {
	for i := range as {
		for k := range bs {
			if classify.Overlap(as[i].Rule, bs[k].Rule) {
				return as[i].from, bs[k].from, true
			}
		}
	}
	return matchName{}, matchName{}, false
}
