package nf

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

// wantRefusal checks that err is of kind and contains text.
func wantRefusal(t *testing.T, err, kind error, text string) {
	t.Helper()
	switch {
	case err == nil:
		t.Errorf("no error, want %q", text)
	case !errors.Is(err, kind):
		t.Errorf("error %q is not of kind %q", err, kind)
	case !strings.Contains(err.Error(), text):
		t.Errorf("error %q, want %q", err, text)
	}
}

func TestRefusalKeepsTerminalsSafe(t *testing.T) {
	err := &Refusal{ErrImport, "unknown import \"\x1b[2J\u009b31m\u202e\n\"", "none\x07"}
	if got, want := err.Error(), "unknown import \"\uFFFD[2J\uFFFD31m\uFFFD\uFFFD\": none\uFFFD"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestRefusals(t *testing.T) {
	a, b, c := errors.New("a"), errors.New("b"), errors.New("c")
	got := Refusals(errors.Join(a, errors.Join(b, nil), c))
	if !slices.Equal(got, []error{a, b, c}) {
		t.Errorf("got %v, want a, b, c", got)
	}
	if Refusals(nil) != nil {
		t.Error("nil has parts")
	}
}
