// Package catalog embeds the catalogue's functions as modules ready to deploy.
// Each folder with a manifest holds one: C sources, manifest, page, and the
// module built from them by go generate. rules, buckets and translate hold
// headers that several share.
package catalog

import (
	"embed"
	"path"
)

//go:generate go run gen.go

//go:embed */*.wasm
var modules embed.FS

// Names lists the functions.
var Names = []string{"acl", "dnsguard", "firewall", "flowstat", "hop", "lb4", "nat44", "ratelimit"}

// Module returns the module of a function; ok is false when the catalogue has
// none of this name.
func Module(name string) (wasm []byte, ok bool) {
	wasm, err := modules.ReadFile(path.Join(name, name+".wasm"))
	return wasm, err == nil
}
