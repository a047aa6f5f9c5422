package chains

import (
	"encoding/json"
	"errors"
	"fmt"
)

// Validate checks what holds for a spec by itself. Specs from [Load] pass;
// those made by programs may not.
func (s *Spec) Validate() error {
	var errs []error
	fail := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("chain %s: "+format, append([]any{title(s)}, args...)...))
	}
	if !isLabel(s.Name) || !isLabel(s.Tenant) {
		fail("name and tenant must be labels; use %s", labelRule)
	}
	if s.Priority < -MaxPriority || s.Priority > MaxPriority {
		fail("priority %d is not between %d and %d", s.Priority, -MaxPriority, MaxPriority)
	}
	if len(s.Match) > MaxMatches {
		fail("%d matches are more than %d", len(s.Match), MaxMatches)
	}
	if len(s.Functions) > MaxFunctions {
		fail("%d functions are more than %d", len(s.Functions), MaxFunctions)
	}
	if s.Budget < MinBudget || s.Budget > MaxBudget {
		fail("budget %v is not between %v and %v", s.Budget, MinBudget, MaxBudget)
	}
	if s.Flows < 1 || s.Flows > MaxFlows {
		fail("flows %d is not between 1 and %d", s.Flows, MaxFlows)
	}
	if int(s.Unmatched) >= len(unmatchedNames) {
		fail("unmatched policy %d does not exist", s.Unmatched)
	}
	names := map[string]bool{}
	for i, f := range s.Functions {
		switch {
		case !isLabel(f.Name):
			fail("function %d: %q is not a name; use %s", i, f.Name, labelRule)
		case names[f.Name]:
			fail("function %q is there twice; rename one", f.Name)
		case f.Module == "":
			fail("function %s has no module", f.Name)
		case int(f.Fault) >= len(faultNames):
			fail("function %s: fault policy %d does not exist", f.Name, f.Fault)
		case f.Config == nil && f.ConfigFile != "":
			fail("function %s: configuration file %s has not been read; use Load", f.Name, f.ConfigFile)
		case !json.Valid(f.Config):
			fail("function %s: configuration is not JSON", f.Name)
		}
		names[f.Name] = true
	}
	if r := s.Return; r != nil {
		if len(r.Match) > MaxMatches {
			fail("return: %d matches are more than %d", len(r.Match), MaxMatches)
		}
		passed := map[string]bool{}
		for _, name := range r.Functions {
			switch {
			case !names[name]:
				fail("return: function %q is not one of the chain's; %s", name, suggest(name, s.functionNames()))
			case passed[name]:
				fail("return: function %q is passed twice; name it once", name)
			}
			passed[name] = true
		}
	}
	return errors.Join(errs...)
}
