package server

import (
	"testing"

	"sfc/ctrl/api"
)

// What a call costs by the unix socket, on the real store: a read from memory, a
// change with two syncs (store, audit log).
func BenchmarkCalls(b *testing.B) {
	w := start(b, b.TempDir(), nil)
	w.tenant(b, "acme", api.TenantSpec{})
	chains := w.root.Chains("acme")
	c := chain("edge")
	must[*api.Chain](b)(chains.Create(b.Context(), c))
	b.Run("get", func(b *testing.B) {
		for b.Loop() {
			must[*api.Chain](b)(chains.Get(b.Context(), "edge"))
		}
	})
	b.Run("put", func(b *testing.B) {
		for b.Loop() {
			c.Spec.Priority = c.Spec.Priority%1000 + 1
			must[*api.Chain](b)(chains.Put(b.Context(), "edge", c))
		}
	})
}
