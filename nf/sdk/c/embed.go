// Package sdk embeds the C headers that network functions are compiled with,
// so that the engine's own binary can build one anywhere.
package sdk

import "embed"

// Headers holds the SDK's header files, at its root.
//
//go:embed *.h
var Headers embed.FS
