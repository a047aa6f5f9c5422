package cpu

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestPinNarrowsOnlyItsOwnThread(t *testing.T) {
	all := Allowed()
	if len(all) == 0 {
		t.Fatal("no core allowed")
	}
	for _, core := range all {
		got := make(chan error)
		go func() { // ends locked, so its thread ends too
			if err := Pin(core); err != nil {
				got <- err
				return
			}
			if now := Allowed(); !slices.Equal(now, []int{core}) {
				got <- fmt.Errorf("pinned to %d, may run on %v", core, now)
				return
			}
			got <- nil
		}()
		if err := <-got; err != nil {
			t.Error(err)
		}
	}
	if now := Allowed(); !slices.Equal(now, all) {
		t.Errorf("the caller may run on %v, before on %v", now, all)
	}
}

func TestPinRefusesAbsentCore(t *testing.T) {
	for _, core := range []int{-1, maxCores, maxCores - 1} {
		if slices.Contains(Allowed(), core) {
			continue
		}
		err := Pin(core)
		if err == nil || !strings.Contains(err.Error(), fmt.Sprint(core)) {
			t.Errorf("Pin(%d) = %v, want an error that names the core", core, err)
		}
	}
}
