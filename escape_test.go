package sfc_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"sfc/testbed/gate"
)

// hotFile is a line of dataplane/hotpath.txt.
type hotFile struct {
	path  string
	only  bool     // names are the hot functions, else those that are not
	names []string // of functions and methods
}

func (h *hotFile) hot(function string) bool { return slices.Contains(h.names, function) == h.only }

// parseHotPath reads dataplane/hotpath.txt; its head explains it.
func parseHotPath(text string) (list []hotFile, err error) {
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		h := hotFile{path: words[0]}
		if len(words) > 1 {
			if len(words) == 2 || words[1] != "only" && words[1] != "except" {
				return nil, fmt.Errorf("%s: want FILE, FILE only NAME... or FILE except NAME..., got %q", h.path, words)
			}
			h.only, h.names = words[1] == "only", words[2:]
		}
		list = append(list, h)
	}
	return list, nil
}

// span is a function's place in its file, in lines.
type span struct {
	name       string
	start, end int
}

// functions lists the functions of a file.
func functions(path string) (list []span, err error) {
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, path, nil, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	for _, d := range f.Decls {
		if fn, ok := d.(*ast.FuncDecl); ok {
			list = append(list, span{fn.Name.Name, fset.Position(fn.Pos()).Line, fset.Position(fn.End()).Line})
		}
	}
	return list, nil
}

// escape is what the compiler says about a value, as in
// dataplane/turn.go:13:16: x escapes to heap.
var escape = regexp.MustCompile(`^(.+\.go):(\d+):\d+: (moved to heap: .+|.+ escapes to heap)$`)

// harmless are escapes that allocate nothing: a constant string made an
// interface, as panic does, and append within the capacity, see hotpath.txt.
var harmless = regexp.MustCompile(`^(".*"|append) escapes to heap$`)

// checkEscapes compares what the compiler wrote with what is hot. The paths in
// output are relative to the repository.
func checkEscapes(output string, hot hotFile, fns []span) (complaints []string) {
	for _, name := range hot.names {
		if !slices.ContainsFunc(fns, func(f span) bool { return f.name == name }) {
			complaints = append(complaints, fmt.Sprintf("hotpath.txt: %s has no function %s", hot.path, name))
		}
	}
	for line := range strings.Lines(output) {
		m := escape.FindStringSubmatch(strings.TrimSpace(line))
		if m == nil || filepath.Clean(m[1]) != hot.path || harmless.MatchString(m[3]) {
			continue
		}
		at, _ := strconv.Atoi(m[2]) // digits, by the expression
		for _, f := range fns {
			if f.start <= at && at <= f.end && hot.hot(f.name) {
				complaints = append(complaints, fmt.Sprintf("%s:%s: %s: %s", hot.path, m[2], f.name, m[3]))
			}
		}
	}
	return complaints
}

// TestHotPathStaysOffHeap compiles the files of dataplane/hotpath.txt and
// complains about every value that the compiler puts on the heap in a hot
// function.
func TestHotPathStaysOffHeap(t *testing.T) {
	text, err := os.ReadFile("dataplane/hotpath.txt")
	if err != nil {
		t.Fatal(err)
	}
	list, err := parseHotPath(string(text))
	if err != nil || len(list) == 0 {
		t.Fatalf("%d files: %v", len(list), err)
	}
	var packages []string
	for _, h := range list {
		packages = append(packages, "./"+filepath.Dir(h.path))
	}
	slices.Sort(packages)
	cmd := exec.Command(gate.Tool(t, "go"), append([]string{"build", "-gcflags=-m"}, slices.Compact(packages)...)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", cmd, err, out)
	}
	// Without a word about set-up functions the output is not what we think.
	if !strings.Contains(string(out), "&Worker{...} escapes to heap") {
		t.Fatalf("%v does not say that a Worker escapes:\n%.2000s", cmd, out)
	}
	for _, h := range list {
		fns, err := functions(h.path)
		if err != nil {
			t.Fatal(err)
		}
		for _, complaint := range checkEscapes(string(out), h, fns) {
			t.Error(complaint)
		}
	}
}

// The check itself, on what a compiler might say.
func TestEscapesAreFound(t *testing.T) {
	fns := []span{{"New", 1, 9}, {"turn", 11, 20}, {"drop", 22, 25}}
	const output = `# sfc/dataplane
dataplane/turn.go:5:2: &T{...} escapes to heap
./dataplane/turn.go:12:2: moved to heap: msg
dataplane/turn.go:13:2: leaking param: x
dataplane/turn.go:14:2: "full pool" escapes to heap
dataplane/turn.go:15:2: append escapes to heap
dataplane/turn.go:23:2: func literal escapes to heap
dataplane/other.go:12:2: x escapes to heap
`
	for _, tt := range []struct{ list, want string }{
		{"dataplane/turn.go", "New: &T{...} escapes to heap|turn: moved to heap: msg|drop: func literal escapes to heap"},
		{"dataplane/turn.go except New", "turn: moved to heap: msg|drop: func literal escapes to heap"},
		{"dataplane/turn.go only turn # a comment", "turn: moved to heap: msg"},
		{"dataplane/turn.go only turm", "has no function turm"},
		{"# nothing\n\ndataplane/third.go", ""},
	} {
		list, err := parseHotPath(tt.list)
		if err != nil || len(list) != 1 {
			t.Fatalf("%q: %v %v", tt.list, list, err)
		}
		got := checkEscapes(output, list[0], fns)
		want := strings.Split(tt.want, "|")
		if tt.want == "" {
			want = nil
		}
		if len(got) != len(want) {
			t.Errorf("%q: %q, want %q", tt.list, got, want)
			continue
		}
		for i := range want {
			if !strings.Contains(got[i], want[i]) {
				t.Errorf("%q: %q, want %q", tt.list, got[i], want[i])
			}
		}
	}
	for _, bad := range []string{"a.go but x", "a.go only"} {
		if _, err := parseHotPath(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}
