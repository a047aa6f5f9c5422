package store

import (
	"os"
	"path/filepath"
	"testing"
)

// What is deleted leaves no message behind, only a mark: a process that is killed
// after that, and before the server makes its next note, leaves nothing damaged.
func TestDeletedAndKilled(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Options{})
	m := modules(t, tenant(t, s, "acme", Limits{}))
	first := put(t, m, content(1, 4<<10)[:4<<10])
	second := put(t, m, content(2, 4<<10)[:4<<10])
	shut(t, s) // the server makes its note
	s = open(t, dir, Options{})
	m = modules(t, tenant(t, s, "acme", Limits{}))
	if err := m.Delete(t.Context(), first.Digest); err != nil {
		t.Fatal(err)
	}
	killed := filepath.Join(t.TempDir(), "killed")
	if err := os.CopyFS(killed, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	shut(t, s)
	s = open(t, killed, Options{})
	if found := s.Damage(); len(found) != 0 {
		t.Errorf("damage: %v", found)
	}
	m = modules(t, tenant(t, s, "acme", Limits{}))
	must[Module](t)(m.Stat(t.Context(), second.Digest))
	_, err := m.Stat(t.Context(), first.Digest)
	is(t, err, ErrNotFound)
}
