package nf

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Bounds of JSON that tenants write. They keep the cost of the checks that
// follow in proportion to its length.
const (
	maxJSONDepth  = 64
	maxJSONValues = 1 << 17
	maxJSONNumber = 40 // characters of one number
	maxJSONExp    = 300
)

// scanJSON checks that data is one JSON value that every parser reads the same
// way and at little cost: UTF-8, no field twice, bounded depth, count and
// numbers. It returns the number of values. Errors name the path, which starts
// with root, and wrap kind.
func scanJSON(data []byte, root string, kind error) (int, error) {
	if !utf8.Valid(data) {
		return 0, &Refusal{kind, root + " is not UTF-8", "JSON is UTF-8 (RFC 8259)"}
	}
	s := jsonScan{dec: json.NewDecoder(bytes.NewReader(data)), root: root, kind: kind}
	s.dec.UseNumber()
	for {
		tok, err := s.dec.Token()
		if err != nil {
			return 0, s.syntax(data, err)
		}
		if err := s.token(tok); err != nil {
			return 0, err
		}
		if len(s.stack) == 0 {
			break
		}
	}
	if _, err := s.dec.Token(); err != io.EOF {
		return 0, &Refusal{kind, fmt.Sprintf("%s: data after the JSON value at byte %d", root, s.dec.InputOffset()), "one value is allowed"}
	}
	return s.values, nil
}

// jsonLevel is one open object or array.
type jsonLevel struct {
	fields map[string]bool // nil for an array
	path   string          // of the element being read, e.g. ".rules" or "[3]"
	index  int             // of the next array element
	inside bool            // an object's key was read, its value comes next
}

type jsonScan struct {
	dec    *json.Decoder
	root   string
	kind   error
	stack  []jsonLevel
	values int
}

func (s *jsonScan) refuse(format string, args ...any) error {
	var path strings.Builder
	path.WriteString(s.root)
	for _, l := range s.stack {
		path.WriteString(l.path)
	}
	return &Refusal{s.kind, path.String() + ": " + fmt.Sprintf(format, args...), ""}
}

// syntax turns a decoder's error into one with line and column.
func (s *jsonScan) syntax(data []byte, err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return &Refusal{s.kind, s.root + ": JSON ends too early", "close every bracket and string"}
	}
	at := data[:min(int64(len(data)), s.dec.InputOffset())]
	line := 1 + bytes.Count(at, []byte("\n"))
	column := len(at) - bytes.LastIndexByte(at, '\n')
	return &Refusal{s.kind, fmt.Sprintf("%s is not JSON: line %d, column %d", s.root, line, column), err.Error()}
}

// token follows the structure by one token.
func (s *jsonScan) token(tok json.Token) error {
	if d, ok := tok.(json.Delim); ok && (d == '}' || d == ']') {
		s.stack = s.stack[:len(s.stack)-1]
		return nil
	}
	if n := len(s.stack); n > 0 {
		top := &s.stack[n-1]
		switch {
		case top.fields == nil:
			top.path = "[" + strconv.Itoa(top.index) + "]"
			top.index++
		case !top.inside:
			key := tok.(string)
			top.path, top.inside = jsonField(key), true
			if top.fields[key] {
				return s.refuse("given twice")
			}
			top.fields[key] = true
			return nil
		default:
			top.inside = false
		}
	}
	if s.values++; s.values > maxJSONValues {
		return s.refuse("more than %d values", maxJSONValues)
	}
	switch tok := tok.(type) {
	case json.Number:
		if !smallNumber(string(tok)) {
			return s.refuse("%s is too long a number, at most %d characters and exponents up to %d are read",
				abbreviate(string(tok)), maxJSONNumber, maxJSONExp)
		}
	case json.Delim:
		if len(s.stack) == maxJSONDepth {
			return s.refuse("nested deeper than %d", maxJSONDepth)
		}
		l := jsonLevel{}
		if tok == '{' {
			l.fields = map[string]bool{}
		}
		s.stack = append(s.stack, l)
	}
	return nil
}

// smallNumber reports whether exact arithmetic on the number is cheap.
func smallNumber(num string) bool {
	if len(num) > maxJSONNumber {
		return false
	}
	_, exp, found := strings.Cut(strings.ToLower(num), "e")
	if !found {
		return true
	}
	e, err := strconv.Atoi(strings.TrimPrefix(exp, "+"))
	return err == nil && -maxJSONExp <= e && e <= maxJSONExp
}

// decodeJSON decodes what scanJSON accepted, numbers as json.Number.
func decodeJSON(data []byte) (any, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	var v any
	err := dec.Decode(&v)
	return v, err
}

// jsonField returns how a field extends a path: .name, or ["na me"].
func jsonField(key string) string {
	plain := key != "" && len(key) <= 64 && strings.IndexFunc(key, func(r rune) bool {
		return r != '_' && r != '-' && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
	}) < 0
	if plain {
		return "." + key
	}
	return "[" + strconv.Quote(abbreviate(key)) + "]"
}

// abbreviate shortens s for an error message.
func abbreviate(s string) string {
	const longest = 60
	if len(s) <= longest {
		return s
	}
	end := longest
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + "..."
}
