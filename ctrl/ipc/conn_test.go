package ipc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"sfc/testbed/gate"
)

func TestCallsInBothDirectionsAtOnce(t *testing.T) {
	gate.Leaks(t)
	a, b := pair(t, Options{Name: "left", Mux: echoMux()}, Options{Name: "right", Mux: echoMux()})
	if a.Name() != "right" || b.Name() != "left" {
		t.Errorf("names %q and %q", a.Name(), b.Name())
	}
	var wg sync.WaitGroup
	for _, c := range []*Conn{a, b} {
		for i := range 50 {
			wg.Go(func() {
				for k := range 20 {
					want := fmt.Sprintf("%d %d %s", i, k, strings.Repeat("x", k*100))
					got, err := Do[echo](t.Context(), c, "echo", echo{want})
					if err != nil || got.Text != want {
						t.Errorf("echo %.20q: %.20q, %v", want, got.Text, err)
					}
				}
			})
		}
	}
	wg.Wait()
}

func TestDescriptorsArriveInOrderWithTheirFrames(t *testing.T) {
	gate.Leaks(t)
	a, _ := pair(t, Options{}, Options{Mux: echoMux()})
	var wg sync.WaitGroup
	for i := range 30 {
		wg.Go(func() {
			var files []*os.File
			defer func() { closeAll(files) }()
			for k := range i % 7 {
				f, err := Memfd("test", fmt.Appendf(nil, "%d/%d", i, k))
				if err != nil {
					t.Error(err)
					return
				}
				files = append(files, f)
			}
			text := strings.Repeat("y", i*5000)
			got, in, err := Call[echo](t.Context(), a, "echo", echo{text}, files...)
			defer in.Close()
			if err != nil || got.Text != text || in.Len() != len(files) {
				t.Errorf("call %d: %d bytes, %d descriptors, %v", i, len(got.Text), in.Len(), err)
				return
			}
			for k := range in.Len() {
				f := in.Take(k)
				body, err := ReadMemfd(f, 100)
				f.Close()
				if want := fmt.Sprintf("%d/%d", i, k); err != nil || string(body) != want {
					t.Errorf("descriptor %d of call %d: %q, %v", k, i, body, err)
				}
			}
		})
	}
	wg.Wait()
}

func TestLongBodiesTravelAsMemory(t *testing.T) {
	gate.Leaks(t)
	a, _ := pair(t, Options{}, Options{Mux: echoMux()})
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	long := strings.Repeat("long <text> ", 1<<20)
	got, in, err := Call[echo](t.Context(), a, "echo", echo{long}, f)
	if err != nil || got.Text != long || in.Len() != 1 {
		t.Fatalf("%d bytes and %d descriptors came back, %v", len(got.Text), in.Len(), err)
	}
	in.Close()
	if _, err := Do[echo](t.Context(), a, "echo", echo{strings.Repeat("z", MaxBody)}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("a body over the limit: %v", err)
	}
	many := make([]*os.File, MaxFiles+1)
	for i := range many {
		many[i] = f
	}
	if _, err := Do[echo](t.Context(), a, "echo", echo{}, many...); !errors.Is(err, ErrTooLarge) {
		t.Errorf("%d descriptors: %v", len(many), err)
	}
	if _, in, err = Call[echo](t.Context(), a, "echo", echo{long}, many[:MaxFiles]...); err != nil || in.Len() != MaxFiles {
		t.Fatalf("%d descriptors came back, %v", in.Len(), err)
	}
	in.Close()
}

func TestAClosedFileIsRefusedAndTheConnectionGoesOn(t *testing.T) {
	a, _ := pair(t, Options{}, Options{Mux: echoMux()})
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	if _, err := Do[echo](t.Context(), a, "echo", echo{}, f); !errors.Is(err, os.ErrClosed) {
		t.Errorf("a closed file was sent: %v", err)
	}
	if _, err := Do[echo](t.Context(), a, "echo", echo{}); err != nil {
		t.Errorf("the next call: %v", err)
	}
}

func TestErrorsKeepTheirCodeAndText(t *testing.T) {
	m := NewMux()
	Handle(m, "coded", func(context.Context, echo, *Files) (echo, []*os.File, error) {
		return echo{}, nil, fmt.Errorf("deep down: %w", Errorf("quota", "6 of 5 used"))
	})
	Handle(m, "plain", func(context.Context, echo, *Files) (echo, []*os.File, error) {
		return echo{}, nil, io.ErrUnexpectedEOF
	})
	Handle(m, "huge", func(context.Context, echo, *Files) (echo, []*os.File, error) {
		return echo{strings.Repeat("z", MaxBody)}, nil, nil
	})
	a, _ := pair(t, Options{}, Options{Mux: m})
	for _, tt := range []struct {
		method     string
		req        any
		code, text string
	}{
		{"coded", echo{}, "quota", "call coded: deep down: 6 of 5 used"},
		{"plain", echo{}, "", "unexpected EOF"},
		{"huge", echo{}, CodeTooLarge, "at most 67108864"},
		{"absent", echo{}, CodeNoMethod, `no method "absent"`},
		{"plain", []int{1}, CodeBadRequest, "cannot unmarshal"},
	} {
		_, err := Do[echo](t.Context(), a, tt.method, tt.req)
		if Code(err) != tt.code || err == nil || !strings.Contains(err.Error(), tt.text) {
			t.Errorf("%s: code %q, %v", tt.method, Code(err), err)
		}
	}
}

// waiting is a mux whose method wait ends with its context and says so.
func waiting() (m *Mux, began, ended chan string) {
	m, began, ended = NewMux(), make(chan string, 2*MaxCalls), make(chan string, 2*MaxCalls)
	Handle(m, "wait", func(ctx context.Context, r echo, _ *Files) (echo, []*os.File, error) {
		began <- r.Text
		<-ctx.Done()
		ended <- r.Text
		return echo{"so far"}, nil, nil
	})
	return m, began, ended
}

func TestTheOtherSideLearnsThatACallerGaveUp(t *testing.T) {
	gate.Leaks(t)
	m, began, ended := waiting()
	a, _ := pair(t, Options{}, Options{Mux: m})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-began
		cancel()
	}()
	if _, err := Do[echo](ctx, a, "wait", echo{"one"}); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled call: %v", err)
	}
	if who := <-ended; who != "one" {
		t.Errorf("%q ended", who)
	}
	ctx, cancel = context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	got, err := DoUntil[echo](ctx, 5*time.Second, a, "wait", echo{"two"})
	if err != nil || got.Text != "so far" {
		t.Errorf("a call that may answer late: %q, %v", got.Text, err)
	}
}

func TestEveryCallEndsWithTheConnection(t *testing.T) {
	gate.Leaks(t)
	m, began, ended := waiting()
	a, b := pair(t, Options{}, Options{Name: "far side", Mux: m})
	errs := make(chan error)
	for range 10 {
		go func() {
			_, err := Do[echo](t.Context(), a, "wait", echo{})
			errs <- err
		}()
	}
	for range 10 {
		<-began
	}
	b.Close()
	for range 10 {
		if err := <-errs; !errors.Is(err, ErrLost) || !strings.Contains(err.Error(), "far side") {
			t.Errorf("a call ended with %v", err)
		}
		<-ended
	}
	<-a.Done()
	if _, err := Do[echo](t.Context(), a, "echo", echo{}); !errors.Is(err, ErrLost) {
		t.Errorf("a call after the end: %v", err)
	}
	if _, err := Do[echo](t.Context(), b, "echo", echo{}); !errors.Is(err, ErrClosed) {
		t.Errorf("a call on the side that closed: %v", err)
	}
}

func TestTooManyCallsAreRefusedNotQueued(t *testing.T) {
	gate.Leaks(t)
	m, began, _ := waiting()
	a, _ := pair(t, Options{}, Options{Mux: m})
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range MaxCalls {
		wg.Go(func() {
			if _, err := Do[echo](ctx, a, "wait", echo{}); !errors.Is(err, context.Canceled) {
				t.Errorf("a call within the limit: %v", err)
			}
		})
	}
	for range MaxCalls {
		<-began
	}
	if _, err := Do[echo](t.Context(), a, "wait", echo{}); Code(err) != CodeBusy {
		t.Errorf("a call over the limit: %v", err)
	}
	cancel()
	wg.Wait()
}

func TestVersionsThatDifferAreNamed(t *testing.T) {
	gate.Leaks(t)
	x, y, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	errs := make(chan error)
	go func() {
		_, err := Open(t.Context(), y, Options{Name: "old", Interfaces: map[string]int{"plane": 1, "only here": 7}})
		errs <- err
	}()
	_, err = Open(t.Context(), x, Options{Name: "new", Interfaces: map[string]int{"plane": 2}})
	for _, err := range []error{err, <-errs} {
		if !errors.Is(err, ErrVersion) || !strings.Contains(err.Error(), "of plane") {
			t.Errorf("got %v", err)
		}
	}
}

func TestASilentPeerIsNotWaitedForLongerThanAsked(t *testing.T) {
	gate.Leaks(t)
	x, y, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	defer y.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	if _, err := Open(ctx, x, Options{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}
