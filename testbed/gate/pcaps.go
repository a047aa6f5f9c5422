package gate

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// Pcaps returns the paths of the captures of real traffic (*.pcap, *.pcapng),
// sorted, and skips tb when there are none. They lie in the folder that
// SFC_PCAPS names, by default shared/pcaps beside the repository; they are no
// part of it.
func Pcaps(tb testing.TB) []string {
	tb.Helper()
	dir := os.Getenv(EnvPcaps)
	if dir == "" {
		root, err := moduleRoot()
		if err != nil {
			tb.Fatalf("gate pcaps: %v", err)
			return nil
		}
		dir = filepath.Join(filepath.Dir(root), "shared", "pcaps")
	}
	var files []string
	for _, pattern := range []string{"*.pcap", "*.pcapng"} {
		found, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			tb.Fatalf("gate pcaps: %v", err)
			return nil
		}
		files = append(files, found...)
	}
	if len(files) == 0 {
		unmet(tb, "pcaps", fmt.Sprintf("no captures in %s: name their folder in %s", dir, EnvPcaps))
		return nil
	}
	slices.Sort(files)
	return files
}

// moduleRoot walks up from the working directory to the folder of go.mod.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", errors.New("no go.mod above the working directory")
		}
		dir = up
	}
}
