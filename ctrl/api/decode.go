package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
)

// maxFieldErrors bounds what is reported of one request.
const maxFieldErrors = 20

// Decode reads JSON into what to points to, strictly: a field that is unknown,
// given twice or of the wrong type is an error, and each is told with its path.
func Decode(data []byte, to any) []FieldError {
	if !json.Valid(data) {
		var any json.RawMessage
		err := json.Unmarshal(data, &any)
		if at, ok := errors.AsType[*json.SyntaxError](err); ok {
			return []FieldError{At("", "byte %d: %v", at.Offset, at)}
		}
		return []FieldError{At("", "it is no JSON: %v", err)}
	}
	var c checks
	c.decode(data, reflect.ValueOf(to).Elem(), "")
	if len(c) > maxFieldErrors {
		c = c[:maxFieldErrors]
	}
	return c
}

var unmarshaler = reflect.TypeFor[json.Unmarshaler]()

// decode reads one value, which is valid JSON.
func (c *checks) decode(data json.RawMessage, v reflect.Value, path string) {
	data = bytes.TrimSpace(data)
	own := reflect.PointerTo(v.Type()).Implements(unmarshaler)
	switch {
	case string(data) == "null":
		v.SetZero()
	case v.Kind() == reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		c.decode(data, v.Elem(), path)
	case v.Kind() == reflect.Struct && !own:
		c.object(data, v, path)
	case v.Kind() == reflect.Slice && !own && v.Type().Elem().Kind() != reflect.Uint8:
		c.array(data, v, path)
	default:
		if err := json.Unmarshal(data, v.Addr().Interface()); err != nil {
			c.fail(path, "%s", unmarshalText(err))
		}
	}
}

// unmarshalText says what is wrong with a value, without words of Go.
func unmarshalText(err error) string {
	wrong, ok := errors.AsType[*json.UnmarshalTypeError](err)
	if !ok {
		return strings.TrimPrefix(err.Error(), "json: ")
	}
	want := map[reflect.Kind]string{reflect.String: "text", reflect.Bool: "true or false", reflect.Map: "an object"}[wrong.Type.Kind()]
	if want == "" {
		want = "a whole number"
	}
	return fmt.Sprintf("it is %s: %s is expected", clip(wrong.Value), want)
}

// array reads the elements of a list.
func (c *checks) array(data json.RawMessage, v reflect.Value, path string) {
	var items []json.RawMessage
	if err := json.Unmarshal(data, &items); err != nil {
		c.fail(path, "a list is expected")
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), len(items), len(items)))
	for i, item := range items {
		c.decode(item, v.Index(i), fmt.Sprintf("%s[%d]", path, i))
	}
}

// object reads the fields of an object.
func (c *checks) object(data json.RawMessage, v reflect.Value, path string) {
	if data[0] != '{' {
		c.fail(path, "an object is expected")
		return
	}
	fields := map[string]reflect.Value{}
	jsonFields(v, fields)
	seen := map[string]bool{}
	dec := json.NewDecoder(bytes.NewReader(data))
	if _, err := dec.Token(); err != nil {
		c.fail(path, "%v", err)
		return
	}
	for dec.More() {
		var value json.RawMessage
		token, err := dec.Token()
		if err == nil {
			err = dec.Decode(&value)
		}
		name, isName := token.(string)
		if err != nil && !errors.Is(err, io.EOF) || !isName {
			c.fail(path, "%v", err)
			return
		}
		at := strings.TrimPrefix(path+"."+clip(name), ".")
		field, known := fields[name]
		switch {
		case !known:
			c.fail(at, "there is no such field")
		case seen[name]:
			c.fail(at, "it is given twice: keep one")
		default:
			c.decode(value, field, at)
		}
		seen[name] = true
	}
}

// jsonFields collects the fields of a struct by their names in JSON.
func jsonFields(v reflect.Value, fields map[string]reflect.Value) {
	for i := range v.NumField() {
		f := v.Type().Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous && name == "":
			jsonFields(v.Field(i), fields)
		case name != "" && name != "-":
			fields[name] = v.Field(i)
		}
	}
}
