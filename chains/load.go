package chains

import (
	"errors"
	"fmt"
	"io"
	"os"

	"sfc/nf"
)

// Load reads the chain file at path and the configuration files it names. On
// success every function's Config is set.
func Load(path string) (Spec, error) {
	data, err := readLimited(path, MaxFile)
	if err != nil {
		return Spec{}, fmt.Errorf("read chain: %w; give the path of a chain file", err)
	}
	spec, err := Parse(path, data)
	if err != nil {
		return Spec{}, err
	}
	for i := range spec.Functions {
		f := &spec.Functions[i]
		if f.ConfigFile == "" {
			continue
		}
		f.Config, err = LoadConfig(f.ConfigFile)
		if err != nil {
			return Spec{}, fmt.Errorf("%s: configuration of function %s: %w", path, f.Name, err)
		}
	}
	return spec, nil
}

// LoadConfig reads a function's configuration from a file: one JSON object.
// It returns it compact.
func LoadConfig(path string) ([]byte, error) {
	data, err := readLimited(path, nf.ConfigMax)
	if err != nil {
		return nil, err
	}
	return parseConfig(path, data)
}

// readLimited reads a regular file of at most limit bytes; of a longer one it
// reads a byte more than that, so that whoever checks the length sees it.
func readLimited(path string, limit int64) (data []byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return io.ReadAll(io.LimitReader(f, limit+1))
}
