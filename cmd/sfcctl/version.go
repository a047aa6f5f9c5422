package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

// version is set by the Makefile: -ldflags "-X main.version=v1.2.3".
var version string

// versionText is what --version prints behind the program's name: version,
// commit when known, compiler and platform.
func versionText() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = &debug.BuildInfo{}
	}
	return describeBuild(version, info)
}

func describeBuild(version string, info *debug.BuildInfo) string {
	if version == "" {
		version = info.Main.Version
	}
	if version == "" || version == "(devel)" {
		version = "devel"
	}
	revision, modified := "", ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			revision = s.Value[:min(12, len(s.Value))]
		case s.Key == "vcs.modified" && s.Value == "true":
			modified = ", modified"
		}
	}
	if revision != "" {
		version += fmt.Sprintf(" (commit %s%s)", revision, modified)
	}
	return fmt.Sprintf("%s %s %s/%s", version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
