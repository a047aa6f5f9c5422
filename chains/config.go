package chains

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"sfc/nf"
)

// json turns an object of the chain file into compact JSON with the fields in
// the file's order. It returns nil after reporting why it cannot.
func (d *decoder) json(v *value, path string) []byte {
	if !d.want(v, path, kindObject) {
		return nil
	}
	var out bytes.Buffer
	if !d.writeJSON(&out, v, path) {
		return nil
	}
	return out.Bytes()
}

// writeJSON appends v to out; ok is false when something was reported. Aliases
// can make a short file describe a long configuration, so the length is
// checked on the way.
func (d *decoder) writeJSON(out *bytes.Buffer, v *value, path string) (ok bool) {
	if out.Len()+len(v.text) > nf.ConfigMax {
		d.report(v, path, fmt.Sprintf("configuration is longer than %d bytes of JSON", nf.ConfigMax), "shorten it")
		return false
	}
	switch v.kind {
	case kindNull:
		out.WriteString("null")
	case kindBool:
		word := strings.ToLower(v.text)
		if word != "true" && word != "false" {
			d.report(v, path, fmt.Sprintf("%s is no boolean of JSON", quote(v.text)), "write true or false")
			return false
		}
		out.WriteString(word)
	case kindInt, kindFloat:
		if !json.Valid([]byte(v.text)) {
			d.report(v, path, fmt.Sprintf("%s is no number of JSON", v.text), "write it in decimal, such as 16 or 0.5, or put it in quotes")
			return false
		}
		out.WriteString(v.text)
	case kindString:
		writeString(out, v.text)
	case kindList:
		out.WriteByte('[')
		for i := range v.items {
			if i > 0 {
				out.WriteByte(',')
			}
			if !d.writeJSON(out, &v.items[i], fmt.Sprintf("%s[%d]", path, i)) {
				return false
			}
		}
		out.WriteByte(']')
	case kindObject:
		out.WriteByte('{')
		for i := range v.fields {
			if i > 0 {
				out.WriteByte(',')
			}
			f := &v.fields[i]
			writeString(out, f.name)
			out.WriteByte(':')
			if !d.writeJSON(out, &f.value, join(path, f.name)) {
				return false
			}
		}
		out.WriteByte('}')
	}
	return true
}

// writeString appends s as a JSON string, with <, > and & as they are.
func writeString(out *bytes.Buffer, s string) {
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false)
	// A string always encodes, and a bytes.Buffer takes everything.
	_ = enc.Encode(s)
	out.Truncate(out.Len() - 1) // the encoder's newline
}

// parseConfig checks the bytes of a configuration file: one JSON object,
// nothing behind it. It returns them compact.
func parseConfig(file string, data []byte) ([]byte, error) {
	problem := func(offset int64, what string) error {
		before := data[:min(int64(len(data)), max(0, offset))]
		return &Problem{
			File:   file,
			Line:   bytes.Count(before, []byte("\n")) + 1,
			Column: max(1, len(before)-bytes.LastIndexByte(before, '\n')-1),
			What:   what,
			Cure:   "write one JSON object, such as {} or {\"rate\": 1000}",
		}
	}
	if len(data) > nf.ConfigMax {
		return nil, &Problem{File: file, What: fmt.Sprintf("configuration has %d bytes, more than %d", len(data), nf.ConfigMax), Cure: "shorten it"}
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	var raw json.RawMessage
	err := dec.Decode(&raw)
	var syntax *json.SyntaxError
	switch {
	case errors.As(err, &syntax):
		return nil, problem(syntax.Offset, syntax.Error())
	case err != nil:
		return nil, problem(int64(len(data)), "configuration is empty or breaks off")
	case raw[0] != '{':
		return nil, problem(dec.InputOffset(), "configuration is not a JSON object")
	}
	end := dec.InputOffset()
	if _, err := dec.Token(); err != io.EOF {
		return nil, problem(end+1, "something follows the JSON object")
	}
	var out bytes.Buffer
	if err := json.Compact(&out, raw); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return out.Bytes(), nil
}
