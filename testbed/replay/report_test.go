package replay

import (
	"errors"
	"strings"
	"testing"

	"sfc/bpf"
)

func TestAccountBalances(t *testing.T) {
	good := Report{Sent: 10, Received: 5, Passed: 2, Dropped: map[string]uint64{"a": 1, "b": 2}}
	if err := good.Balance(); err != nil {
		t.Error(err)
	}
	for want, spoil := range map[string]func(*Report){
		"sent 11, received 5 + passed 2 + dropped 3 + lost 0 = 10": func(r *Report) { r.Sent++ },
		"= 9":                      func(r *Report) { r.Received-- },
		"1 packets lost":           func(r *Report) { r.Passed--; r.Lost++ },
		"1 frames came out that n": func(r *Report) { r.Foreign++ },
	} {
		r := good
		spoil(&r)
		if err := r.Balance(); !errors.Is(err, ErrUnbalanced) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// A steering program that decides otherwise than its mirror is found out.
func TestCompareSteering(t *testing.T) {
	want := map[string]uint64{"redirected": 5, "passed": 1, "malformed": 2}
	c := bpf.Counters{Redirected: 5, Passed: 1, Malformed: 2}
	if err := compareSteering(c, want); err != nil {
		t.Error(err)
	}
	c.Redirected, c.NoSocket = 4, 1
	err := compareSteering(c, want)
	if !errors.Is(err, ErrUnbalanced) || !strings.Contains(err.Error(), "counted 1 frames as no_socket, expected were 0") ||
		!strings.Contains(err.Error(), "counted 4 frames as redirected, expected were 5") {
		t.Error(err)
	}
}
