package api

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Bytes is an amount of memory or storage. In JSON it is text with a binary or
// decimal suffix: 64Mi, 1500k; it is printed in the largest binary unit that
// holds it exactly.
type Bytes int64

// Count is a number of things. In JSON it is text with a decimal suffix: 100k,
// 2M; it is printed in the largest unit that holds it exactly.
type Count int64

// Share is a part of a whole in 1/1000. In JSON it is text, a percentage with at
// most one decimal: 50%, 12.5%.
type Share int

// unit is a suffix and what it stands for.
type unit struct {
	suffix string
	factor int64
}

var (
	binaryUnits  = []unit{{"Ti", 1 << 40}, {"Gi", 1 << 30}, {"Mi", 1 << 20}, {"Ki", 1 << 10}}
	decimalUnits = []unit{{"T", 1e12}, {"G", 1e9}, {"M", 1e6}, {"k", 1e3}}
)

// ParseBytes reads an amount such as 64Mi, 100k or 4096.
func ParseBytes(s string) (Bytes, error) {
	n, err := parseQuantity(s, binaryUnits, decimalUnits)
	if err != nil {
		return 0, fmt.Errorf("%q is no amount of bytes: %w: write it as 64Mi, 100k or 4096", clip(s), err)
	}
	return Bytes(n), nil
}

// ParseCount reads a number such as 100k or 4096.
func ParseCount(s string) (Count, error) {
	n, err := parseQuantity(s, decimalUnits)
	if err != nil {
		return 0, fmt.Errorf("%q is no number: %w: write it as 100k, 2M or 4096", clip(s), err)
	}
	return Count(n), nil
}

// ParseShare reads a share such as 50%, 12.5% or 125 (in 1/1000).
func ParseShare(s string) (Share, error) {
	text, percent := strings.CutSuffix(s, "%")
	digits := strings.Replace(text, ".", "", 1)
	n, err := strconv.ParseUint(digits, 10, 31)
	whole, fraction, dotted := strings.Cut(text, ".")
	switch {
	case err != nil, whole == "", dotted && (!percent || len(fraction) != 1):
		return 0, fmt.Errorf("%q is no share: write it as 50%%, 12.5%% or 125 (in 1/1000)", clip(s))
	case percent && !dotted:
		n *= 10
	}
	if n > 1000 {
		return 0, fmt.Errorf("%q is more than all: 100%% is the most", clip(s))
	}
	return Share(n), nil
}

// parseQuantity reads a number without sign, with at most one of the suffixes.
func parseQuantity(s string, sets ...[]unit) (int64, error) {
	digits, factor := s, int64(1)
	for _, set := range sets {
		for _, u := range set {
			if rest, ok := strings.CutSuffix(s, u.suffix); ok && factor == 1 {
				digits, factor = rest, u.factor
			}
		}
	}
	if digits == "" || strings.Trim(digits, "0123456789") != "" {
		return 0, fmt.Errorf("digits and a suffix are expected")
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n > math.MaxInt64/factor {
		return 0, fmt.Errorf("it is too large")
	}
	return n * factor, nil
}

// formatQuantity prints n in the largest unit that holds it exactly.
func formatQuantity(n int64, units []unit) string {
	for _, u := range units {
		if n != 0 && n%u.factor == 0 {
			return strconv.FormatInt(n/u.factor, 10) + u.suffix
		}
	}
	return strconv.FormatInt(n, 10)
}

// String returns the amount as it is written, such as 64Mi.
func (b Bytes) String() string { return formatQuantity(int64(b), binaryUnits) }

// String returns the number as it is written, such as 100k.
func (c Count) String() string { return formatQuantity(int64(c), decimalUnits) }

// String returns the share as it is written, such as 12.5%.
func (s Share) String() string {
	if s%10 == 0 {
		return strconv.Itoa(int(s)/10) + "%"
	}
	return fmt.Sprintf("%d.%d%%", int(s)/10, int(s)%10)
}

// MarshalJSON implements json.Marshaler.
func (b Bytes) MarshalJSON() ([]byte, error) { return json.Marshal(b.String()) }

// MarshalJSON implements json.Marshaler.
func (c Count) MarshalJSON() ([]byte, error) { return json.Marshal(c.String()) }

// MarshalJSON implements json.Marshaler.
func (s Share) MarshalJSON() ([]byte, error) { return json.Marshal(s.String()) }

// UnmarshalJSON implements json.Unmarshaler. Plain numbers are taken as well.
func (b *Bytes) UnmarshalJSON(data []byte) (err error) {
	return unmarshalQuantity(data, b, ParseBytes)
}

// UnmarshalJSON implements json.Unmarshaler. Plain numbers are taken as well.
func (c *Count) UnmarshalJSON(data []byte) (err error) {
	return unmarshalQuantity(data, c, ParseCount)
}

// UnmarshalJSON implements json.Unmarshaler. Plain numbers are taken as well.
func (s *Share) UnmarshalJSON(data []byte) (err error) {
	return unmarshalQuantity(data, s, ParseShare)
}

func unmarshalQuantity[T any](data []byte, to *T, parse func(string) (T, error)) error {
	text := string(data)
	if len(data) > 0 && data[0] == '"' {
		if err := json.Unmarshal(data, &text); err != nil {
			return err
		}
	}
	if text == "null" {
		return nil
	}
	v, err := parse(text)
	if err != nil {
		return err
	}
	*to = v
	return nil
}

// clip shortens what a user wrote to a bearable length.
func clip(s string) string {
	if r := []rune(s); len(r) > 60 {
		return string(r[:60]) + "..."
	}
	return s
}
