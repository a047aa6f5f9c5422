package native

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
)

// parseConfig reads a JSON object strictly: no field may repeat.
func parseConfig(config []byte) (map[string]any, error) {
	if !json.Valid(config) {
		return nil, errors.New("not JSON")
	}
	d := json.NewDecoder(bytes.NewReader(config))
	d.UseNumber()
	value, err := parseValue(d)
	if err != nil {
		return nil, err
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("something behind the object")
	}
	object, ok := value.(map[string]any)
	if !ok {
		return nil, errors.New("not an object")
	}
	return object, nil
}

func parseValue(d *json.Decoder) (any, error) {
	token, err := d.Token()
	if err != nil {
		return nil, err
	}
	switch token {
	case json.Delim('['):
		array := []any{}
		for d.More() {
			element, err := parseValue(d)
			if err != nil {
				return nil, err
			}
			array = append(array, element)
		}
		_, err = d.Token()
		return array, err
	case json.Delim('{'):
		object := map[string]any{}
		for d.More() {
			key, err := d.Token()
			if err != nil {
				return nil, err
			}
			name := key.(string)
			if _, there := object[name]; there {
				return nil, fmt.Errorf("field %q repeats", name)
			}
			if object[name], err = parseValue(d); err != nil {
				return nil, err
			}
		}
		_, err = d.Token()
		return object, err
	}
	return token, nil
}

// onlyFields refuses fields that are not listed.
func onlyFields(object map[string]any, known ...string) error {
	for name := range object {
		if !slices.Contains(known, name) {
			return fmt.Errorf("unknown field %q", name)
		}
	}
	return nil
}

// The getters return the default when the field is absent.

func getInt(object map[string]any, name string, def, min, max int64) (int64, error) {
	value, ok := object[name]
	if !ok {
		return def, nil
	}
	return toInt(value, name, min, max)
}

func toInt(value any, name string, min, max int64) (int64, error) {
	number, ok := value.(json.Number)
	if !ok {
		return 0, fmt.Errorf("%s is not a number", name)
	}
	n, err := strconv.ParseInt(number.String(), 10, 64)
	if err != nil || n < min || n > max {
		return 0, fmt.Errorf("%s: %v is not an integer from %d to %d", name, number, min, max)
	}
	return n, nil
}

func getBool(object map[string]any, name string, def bool) (bool, error) {
	value, ok := object[name]
	if !ok {
		return def, nil
	}
	b, ok := value.(bool)
	if !ok {
		return false, fmt.Errorf("%s is not true or false", name)
	}
	return b, nil
}

// getEnum returns one of the allowed strings; the first is the default.
func getEnum(object map[string]any, name string, allowed ...string) (string, error) {
	value, ok := object[name]
	if !ok {
		return allowed[0], nil
	}
	s, ok := value.(string)
	if !ok || !slices.Contains(allowed, s) {
		return "", fmt.Errorf("%s: %v is none of %q", name, value, allowed)
	}
	return s, nil
}

// getArray returns the elements, at most max.
func getArray(object map[string]any, name string, max int) ([]any, error) {
	value, ok := object[name]
	if !ok {
		return nil, nil
	}
	array, ok := value.([]any)
	if !ok {
		return nil, fmt.Errorf("%s is not an array", name)
	}
	if len(array) > max {
		return nil, fmt.Errorf("%s has %d elements, at most %d are allowed", name, len(array), max)
	}
	return array, nil
}
