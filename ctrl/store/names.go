package store

import (
	"fmt"
	"unicode/utf8"
)

// MaxKey is the length of the longest key, in bytes. Escaped it is at most three
// times as long, and the engine's protocol lines hold 4,096 bytes.
const MaxKey = 1024

// maxName is the length of the longest name of a space, in bytes: escaped it
// still is the name of a directory (255).
const maxName = 80

const hexDigits = "0123456789ABCDEF"

// plain says whether a byte means nothing to the engine, to a file system or to
// the escaping itself. A dot would part subjects, so it is not plain.
func plain(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-'
}

// escape writes every byte that is not plain as =XX, so that any name becomes
// one token of a subject and names that differ stay different. With slash, '/'
// stays as it is: keys may have it, names of directories may not.
func escape(name string, slash bool) string {
	n := 0
	for i := range len(name) {
		if !plain(name[i]) && !(slash && name[i] == '/') {
			n++
		}
	}
	if n == 0 {
		return name
	}
	out := make([]byte, 0, len(name)+2*n)
	for i := range len(name) {
		if c := name[i]; plain(c) || slash && c == '/' {
			out = append(out, c)
		} else {
			out = append(out, '=', hexDigits[c>>4], hexDigits[c&15])
		}
	}
	return string(out)
}

// unescape is the inverse of escape; ok is false for what escape never writes.
func unescape(s string, slash bool) (name string, ok bool) {
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case plain(c), slash && c == '/':
			out = append(out, c)
		case c == '=' && i+2 < len(s):
			hi, lo := unhex(s[i+1]), unhex(s[i+2])
			if hi < 0 || lo < 0 {
				return "", false
			}
			b := byte(hi<<4 | lo)
			if plain(b) || slash && b == '/' {
				return "", false
			}
			out = append(out, b)
			i += 2
		default:
			return "", false
		}
	}
	return string(out), true
}

func unhex(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

// checkKey refuses keys that could not be shown or sent. What a key means is
// its owner's business; by custom its parts are separated by '/'.
func checkKey(key string) error {
	switch {
	case key == "":
		return fmt.Errorf("key: %w: it is empty", ErrName)
	case len(key) > MaxKey:
		return fmt.Errorf("key %.32q...: %w: it has %d bytes, at most %d are allowed", key, ErrName, len(key), MaxKey)
	case !utf8.ValidString(key):
		return fmt.Errorf("key %q: %w: it is not UTF-8", key, ErrName)
	}
	return nil
}

// checkSpace refuses names of spaces that could not be shown or stored.
func checkSpace(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("space: %w: it is empty", ErrName)
	case len(name) > maxName:
		return fmt.Errorf("space %.32q...: %w: it has %d bytes, at most %d are allowed", name, ErrName, len(name), maxName)
	case !utf8.ValidString(name):
		return fmt.Errorf("space %q: %w: it is not UTF-8", name, ErrName)
	}
	return nil
}

// checkBucket refuses names of buckets that are not plain: they are the control
// plane's own words.
func checkBucket(name string) error {
	if name == "" || len(name) > maxName {
		return fmt.Errorf("bucket %q: %w: 1 to %d bytes are allowed", name, ErrName, maxName)
	}
	for i := range len(name) {
		if !plain(name[i]) {
			return fmt.Errorf("bucket %q: %w: letters, digits, _ and - are allowed", name, ErrName)
		}
	}
	return nil
}
