package build

import (
	"embed"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// skeleton is the function that New copies, called myfilter in every file.
//
//go:embed skeleton
var skeleton embed.FS

// New makes the folder dir with a function called name that builds and has a
// test: sources, manifest, configuration, a capture and what must become of it,
// Makefile and README. It refuses a folder that exists ([ErrExists]) and a name
// that the manifest would refuse ([ErrBadName]), and leaves nothing behind when
// it fails.
func New(dir, name string) (err error) {
	if !validName.MatchString(name) {
		return fmt.Errorf("new function %q: %w", name, ErrBadName)
	}
	if _, err := os.Lstat(dir); err == nil {
		return fmt.Errorf("new function: %s: %w", dir, ErrExists)
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return fmt.Errorf("new function: %w", err)
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return fmt.Errorf("new function: %w", err)
	}
	defer func() {
		if err != nil {
			os.RemoveAll(dir)
		}
	}()
	files, err := fs.Sub(skeleton, "skeleton")
	if err != nil {
		return fmt.Errorf("new function: %w", err)
	}
	err = fs.WalkDir(files, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := fs.ReadFile(files, path)
		if err != nil {
			return err
		}
		if path == "function.c" {
			path = name + ".c"
		}
		return os.WriteFile(filepath.Join(dir, path), []byte(strings.ReplaceAll(string(text), "myfilter", name)), 0o644)
	})
	if err != nil {
		return fmt.Errorf("new function %s: %w", dir, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "in.pcap"), sample(), 0o644); err != nil {
		return fmt.Errorf("new function %s: %w", dir, err)
	}
	return nil
}
