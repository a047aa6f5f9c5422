package sdk_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// program compiles testdata/NAME.c with gcc (which cgo needs anyway) and its
// sanitizers, and returns its path. It skips the test where there is none.
func program(t *testing.T, name string) string {
	t.Helper()
	gcc, err := exec.LookPath("gcc")
	if err != nil {
		t.Skip("gcc is not here: apt-get install gcc")
	}
	path := filepath.Join(t.TempDir(), name)
	out, err := exec.Command(gcc, "-std=gnu11", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-DSFC_NATIVE", "-I.",
		"-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-o", path, filepath.Join("testdata", name+".c")).CombinedOutput()
	if bytes.Contains(out, []byte("cannot find -lasan")) {
		t.Skipf("gcc has no sanitizers: apt-get install libgcc-12-dev\n%s", out)
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return path
}

func TestInet(t *testing.T) {
	if out, err := exec.Command(program(t, "inet")).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestJSON compares the parser with encoding/json on broken and whole texts.
func TestJSON(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("TEST_SEED"); text != "" {
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatalf("TEST_SEED=%q: %v", text, err)
		}
		seed = n
	}
	t.Logf("TEST_SEED=%d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	texts := []string{
		``, ` `, `{}`, `[]`, `null`, `true`, `false`, `tru`, `0`, `-0`, `-`, `01`, `9223372036854775807`, `9223372036854775808`,
		`-9223372036854775807`, `99999999999999999999999999`, `1.5`, `1e3`, `"`, `"a`, `"\u00e9\ud83d\ude00"`, `"\ud800"`, `"\udc00\ud800"`, `"\u12g4"`,
		"\"\x00\"", "\"\xff\"", "\"\xc0\x80\"", "\"\xed\xa0\x80\"", "\"\xf4\x90\x80\x80\"", "\"é€😀\"", `"\x"`, `[1,]`, `[,1]`, `[1 2]`, `[1}`, `{"a":1,}`, `{"a"}`,
		`{a:1}`, `{"a":1 "b":2}`, `{"a":[{"b":[[]]}]}`, `[]]`, `[1] x`, "\ufeff{}", strings.Repeat("[", 16) + strings.Repeat("]", 16),
		strings.Repeat("[", 17) + strings.Repeat("]", 17), `{"` + strings.Repeat("k", 33) + `":1}`, "{\"a\n\":1}", `[1,2,{"x":"\"\\\/\b\f\n\r\t"}]`,
	}
	base := append(texts, `{"rules":[{"action":"deny","ports":[80,"1024-65535"],"on":true},{}],"default":null}`, `{"a":{"b":[1,[2,{"c":"x	y"}]]}}`)
	for range 20000 {
		texts = append(texts, mutate(rng, base[rng.IntN(len(base))]))
	}
	var in bytes.Buffer
	for _, text := range texts {
		in.Write(binary.LittleEndian.AppendUint32(nil, uint32(len(text))))
		in.WriteString(text)
	}
	cmd := exec.Command(program(t, "json"))
	cmd.Stdin = &in
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, &stderr)
	}
	lines := strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
	if len(lines) != len(texts) {
		t.Fatalf("%d answers for %d texts", len(lines), len(texts))
	}
	accepted := 0
	for i, text := range texts {
		want, ok := oracle(text)
		if ok {
			accepted++
		}
		if got := lines[i]; strings.HasPrefix(got, "error") == ok || ok && got != want {
			t.Errorf("%q: %s, want %s %v", text, got, want, ok)
		}
	}
	t.Logf("%d of %d accepted", accepted, len(texts))
	if accepted < 400 || accepted == len(texts) {
		t.Error("too few texts of one kind")
	}
}

// mutate changes a text in one to three places.
func mutate(rng *rand.Rand, text string) string {
	pieces := []string{"{", "}", "[", "]", ",", ":", `"`, `\`, " ", "0", "-1", "12", "true", "null", `"a"`, `"b":`, `\u0041`, `\ud83d`, `\ude00`, "é", "\xe9", "\t", "e", "."}
	for range 1 + rng.IntN(3) {
		i := rng.IntN(len(text) + 1)
		j := min(len(text), i+rng.IntN(3))
		switch rng.IntN(3) {
		case 0:
			text = text[:i] + pieces[rng.IntN(len(pieces))] + text[i:]
		case 1:
			text = text[:i] + text[j:]
		case 2:
			text = text[:i] + pieces[rng.IntN(len(pieces))] + text[j:]
		}
	}
	return text
}

// oracle returns what the C program prints for a text, from encoding/json and
// what the parser is stricter about.
func oracle(text string) (string, bool) {
	if !json.Valid([]byte(text)) || !utf8.ValidString(text) || loneSurrogate(text) {
		return "", false
	}
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	return dump(d, 0)
}

// dump reads one value and prints it.
func dump(d *json.Decoder, depth int) (string, bool) {
	token, err := d.Token()
	if err != nil || depth > 16 {
		return "", false
	}
	var out strings.Builder
	switch v := token.(type) {
	case nil:
		return "null", true
	case bool:
		return strconv.FormatBool(v), true
	case json.Number:
		n, err := strconv.ParseInt(v.String(), 10, 64)
		return strconv.FormatInt(n, 10), err == nil && n != -1<<63
	case string:
		return fmt.Sprintf("\"%x\"", v), len(v) <= 4096
	case json.Delim:
		if depth == 16 {
			return "", false
		}
		out.WriteString(v.String())
		for d.More() {
			if v == '{' {
				key, _ := d.Token()
				name := key.(string)
				fmt.Fprintf(&out, "\"%x\":", name[:min(len(name), 32)])
			}
			value, ok := dump(d, depth+1)
			if !ok {
				return "", false
			}
			out.WriteString(value + ",")
		}
		end, _ := d.Token()
		out.WriteString(end.(json.Delim).String())
	}
	return out.String(), true
}

// loneSurrogate says whether the text has half of a surrogate pair in a \u
// escape, which encoding/json lets pass.
func loneSurrogate(text string) bool {
	high := false // a high surrogate stands right in front
	for i := 0; i < len(text); i++ {
		var unit uint64
		n := 1
		if text[i] == '\\' && i+1 < len(text) {
			n = 2
			if text[i+1] == 'u' && i+6 <= len(text) {
				unit, _ = strconv.ParseUint(text[i+2:i+6], 16, 16)
				n = 6
			}
		}
		isLow := unit >= 0xdc00 && unit < 0xe000
		if high != isLow {
			return true
		}
		high = unit >= 0xd800 && unit < 0xdc00
		i += n - 1
	}
	return high
}
