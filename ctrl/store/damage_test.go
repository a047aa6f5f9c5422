package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// streamPath is where a stream of acme's is.
func streamPath(dir, stream string) string {
	return filepath.Join(dir, engineDir, tenantPrefix+"acme", "streams", stream)
}

// fixture makes a store with keys k0 ... k19, each written twice, and returns the
// revisions of the latest values.
func fixture(t *testing.T) (dir string, revisions map[string]uint64) {
	t.Helper()
	dir, revisions = t.TempDir(), map[string]uint64{}
	s := open(t, dir, Options{})
	b := bucket(t, tenant(t, s, "acme", Limits{}), "desired")
	for i := range 40 {
		key, value := fmt.Sprint("k", i%20), fmt.Appendf(nil, "value %d of %d", i/20, i%20)
		if rev, ok := revisions[key]; ok {
			revisions[key] = must[uint64](t)(b.Update(t.Context(), key, value, rev))
		} else {
			revisions[key] = must[uint64](t)(b.Create(t.Context(), key, value))
		}
	}
	must[uint64](t)(bucket(t, tenant(t, s, "acme", Limits{}), "observed").Create(t.Context(), "k", nil))
	must[uint64](t)(bucket(t, tenant(t, s, "other", Limits{}), "desired").Create(t.Context(), "k", nil))
	shut(t, s)
	return dir, revisions
}

// damage changes the record of a revision of acme's desired state.
func damage(t *testing.T, dir string, revision uint64, change func(rec []byte)) {
	t.Helper()
	e := examination{dir: dir, account: tenantPrefix + "acme", stream: "KV_desired"}
	files, err := e.blockFiles()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		data := must[[]byte](t)(os.ReadFile(f.path))
		f.block = must[*block](t)(parseBlock(e.stream, f.n, data))
		for _, r := range f.records {
			if r.seq == revision {
				change(data[r.off : r.off+r.len])
				if err := os.WriteFile(f.path, data, 0o600); err != nil {
					t.Fatal(err)
				}
				return
			}
		}
	}
	t.Fatalf("revision %d is not on disk", revision)
}

// One broken record costs its key, by name. Everything else serves, before it and
// behind it, and nothing that was replaced comes back.
func TestDamagedRecord(t *testing.T) {
	flips := map[string]func(rec []byte){
		"value":    func(rec []byte) { rec[len(rec)-recordHash-3] ^= 4 },
		"checksum": func(rec []byte) { rec[len(rec)-1] ^= 0x80 },
		"time":     func(rec []byte) { rec[13] ^= 1 },
		"zeros":    func(rec []byte) { clear(rec[recordHead+20:]) },
	}
	for name, flip := range flips {
		for _, index := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s,index=%v", name, index), func(t *testing.T) {
				dir, revisions := fixture(t)
				damage(t, dir, revisions["k7"], flip)
				if !index {
					if err := os.Remove(filepath.Join(streamPath(dir, "KV_desired"), "msgs", "index.db")); err != nil {
						t.Fatal(err)
					}
				}
				s := open(t, dir, Options{})
				found := s.Damage()
				if len(found) != 1 {
					t.Fatalf("damage: %v", found)
				}
				d := found[0]
				if d.Space != "acme" || d.Name != "desired" || d.OutOfService {
					t.Errorf("damage: %+v", d)
				}
				if name != "zeros" && (d.Key != "k7" || d.Revision != revisions["k7"]) {
					t.Errorf("damage of k7 at %d: %+v", revisions["k7"], d)
				}
				if _, err := os.Stat(d.Quarantine); err != nil {
					t.Error(err)
				}
				b := bucket(t, tenant(t, s, "acme", Limits{}), "desired")
				for i := range 20 {
					key := fmt.Sprint("k", i)
					e, err := b.Get(key)
					switch {
					case key == d.Key:
						is(t, err, ErrNotFound)
					case key == "k7":
						// The head was broken: whose it was is not known.
					case err != nil || e.Revision != revisions[key] || string(e.Value) != fmt.Sprintf("value 1 of %d", i):
						t.Errorf("%s: %q at %d, err %v", key, e.Value, e.Revision, err)
					}
				}
				if d.Key != "" {
					if rev := must[uint64](t)(b.Create(t.Context(), "k7", []byte("again"))); rev <= revisions["k19"] {
						t.Errorf("revision %d was used before", rev)
					}
				}
				shut(t, s)
				s = open(t, dir, Options{})
				if found := s.Damage(); len(found) != 0 {
					t.Errorf("damage that was repaired is found again: %v", found)
				}
				if d.Key != "" {
					e := must[Entry](t)(bucket(t, tenant(t, s, "acme", Limits{}), "desired").Get("k7"))
					if string(e.Value) != "again" {
						t.Errorf("k7 is %q", e.Value)
					}
				}
			})
		}
	}
}

// A broken value that was replaced since is repaired, and nothing is lost.
func TestDamagedReplacedRecord(t *testing.T) {
	dir, revisions := fixture(t)
	damage(t, dir, 3, func(rec []byte) { rec[len(rec)-recordHash-3] ^= 4 })
	s := open(t, dir, Options{})
	if found := s.Damage(); len(found) != 1 || found[0].Key != "" || !strings.Contains(found[0].What, "nothing is lost") {
		t.Errorf("damage: %v", found)
	}
	b := bucket(t, tenant(t, s, "acme", Limits{}), "desired")
	for key, rev := range revisions {
		if e := must[Entry](t)(b.Get(key)); e.Revision != rev {
			t.Errorf("%s has revision %d, want %d", key, e.Revision, rev)
		}
	}
}

// A block that is gone is noticed, and the keys of the others serve.
func TestMissingBlock(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Options{})
	b := bucket(t, tenant(t, s, "acme", Limits{}), "desired")
	for i := range 20 {
		must[uint64](t)(b.Create(t.Context(), fmt.Sprint(i), content(i, 1<<20-100)))
	}
	shut(t, s)
	if err := os.Remove(filepath.Join(streamPath(dir, "KV_desired"), "msgs", "1.blk")); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir, Options{})
	b = bucket(t, tenant(t, s, "acme", Limits{}), "desired")
	if found := s.Damage(); len(found) != 1 || !strings.Contains(found[0].What, "missing") {
		t.Errorf("damage: %v", found)
	}
	must[Entry](t)(b.Get("19"))
	_, err := b.Get("0")
	is(t, err, ErrNotFound)
}

// Whichever byte of a block is broken, all other records are found, and what is
// written in the place of the broken one is accepted.
func TestEveryByteOfABlock(t *testing.T) {
	dir, _ := fixture(t)
	path := filepath.Join(streamPath(dir, "KV_desired"), "msgs", "1.blk")
	whole := must[[]byte](t)(os.ReadFile(path))
	before := must[*block](t)(parseBlock("KV_desired", 1, whole))
	if len(before.records) != 40 || len(before.gaps) != 0 {
		t.Fatalf("%d records, gaps %v", len(before.records), before.gaps)
	}
	for off := range whole {
		data := bytes.Clone(whole)
		data[off] ^= 1 << rand.IntN(8)
		b := must[*block](t)(parseBlock("KV_desired", 1, data))
		if len(b.records) != 39 || len(b.gaps) != 1 {
			t.Fatalf("byte %d: %d records, gaps %v", off, len(b.records), b.gaps)
		}
		if err := b.erase(b.gaps[0]); err != nil {
			t.Fatalf("byte %d: %v", off, err)
		}
		if b = must[*block](t)(parseBlock("KV_desired", 1, data)); len(b.records) != 40 || len(b.gaps) != 0 {
			t.Fatalf("byte %d: after its repair %d records, gaps %v", off, len(b.records), b.gaps)
		}
	}
}

// A stream whose description is broken is put aside; all others serve.
func TestDamagedDescription(t *testing.T) {
	for _, file := range []string{"meta.inf", "meta.sum"} {
		for _, missing := range []bool{false, true} {
			dir, _ := fixture(t)
			path := filepath.Join(streamPath(dir, "KV_desired"), file)
			text := must[[]byte](t)(os.ReadFile(path))
			text[len(text)/2] ^= 1
			err := os.WriteFile(path, text, 0o600)
			if missing {
				err = os.Remove(path)
			}
			if err != nil {
				t.Fatal(err)
			}
			s := open(t, dir, Options{})
			if found := s.Damage(); len(found) != 1 || !found[0].OutOfService || found[0].Name != "desired" {
				t.Fatalf("%s: damage %v", file, found)
			}
			acme := tenant(t, s, "acme", Limits{})
			_, err = acme.Bucket(t.Context(), "desired")
			var d *DamagedError
			if !errors.As(err, &d) || !strings.HasPrefix(d.Quarantine, dir) {
				t.Fatalf("%s: %v", file, err)
			}
			must[Entry](t)(bucket(t, acme, "observed").Get("k"))
			must[Entry](t)(bucket(t, tenant(t, s, "other", Limits{}), "desired").Get("k"))
			if err := os.RemoveAll(d.Quarantine); err != nil {
				t.Fatal(err)
			}
			must[uint64](t)(bucket(t, acme, "desired").Create(t.Context(), "k", nil))
		}
	}
}

// What the server remembers of its blocks may be broken or lost: it is made anew.
func TestDamagedIndex(t *testing.T) {
	for _, change := range []func(path string) error{
		os.Remove,
		func(path string) error { return os.Truncate(path, 10) },
		func(path string) error { return os.WriteFile(path, bytes.Repeat([]byte{0xa5}, 500), 0o600) },
	} {
		dir, revisions := fixture(t)
		if err := change(filepath.Join(streamPath(dir, "KV_desired"), "msgs", "index.db")); err != nil {
			t.Fatal(err)
		}
		s := open(t, dir, Options{})
		if found := s.Damage(); len(found) != 0 {
			t.Errorf("damage: %v", found)
		}
		b := bucket(t, tenant(t, s, "acme", Limits{}), "desired")
		for key, rev := range revisions {
			if e := must[Entry](t)(b.Get(key)); e.Revision != rev {
				t.Errorf("%s has revision %d, want %d", key, e.Revision, rev)
			}
		}
	}
}

// What a process leaves that dies in the middle of a write is no damage.
func TestTornTail(t *testing.T) {
	for _, cut := range []int64{1, 7, 8, 20, 40} {
		dir, revisions := fixture(t)
		path := filepath.Join(streamPath(dir, "KV_desired"), "msgs", "1.blk")
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(path, info.Size()-cut); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(filepath.Join(filepath.Dir(path), "index.db")); err != nil {
			t.Fatal(err)
		}
		s := open(t, dir, Options{})
		if found := s.Damage(); len(found) != 0 {
			t.Errorf("cut by %d: damage %v", cut, found)
		}
		b := bucket(t, tenant(t, s, "acme", Limits{}), "desired")
		if e := must[Entry](t)(b.Get("k18")); e.Revision != revisions["k18"] {
			t.Errorf("cut by %d: k18 has revision %d", cut, e.Revision)
		}
		if e := must[Entry](t)(b.Get("k19")); string(e.Value) != "value 0 of 19" {
			t.Errorf("cut by %d: k19 is %q", cut, e.Value)
		}
	}
}

// A clock that was a century ahead, and is right again, changes nothing:
// revisions decide.
func TestClockJumps(t *testing.T) {
	for _, when := range []time.Time{time.Date(2126, 1, 1, 0, 0, 0, 0, time.UTC), time.Unix(1, 0)} {
		dir, revisions := fixture(t)
		path := filepath.Join(streamPath(dir, "KV_desired"), "msgs", "1.blk")
		data := must[[]byte](t)(os.ReadFile(path))
		b := must[*block](t)(parseBlock("KV_desired", 1, data))
		for i, r := range b.records {
			if i%2 == 0 {
				b.retime(r, when.UnixNano()-int64(i))
			}
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(filepath.Join(filepath.Dir(path), "index.db")); err != nil {
			t.Fatal(err)
		}
		s := open(t, dir, Options{})
		if found := s.Damage(); len(found) != 0 {
			t.Fatalf("damage: %v", found)
		}
		kv := bucket(t, tenant(t, s, "acme", Limits{}), "desired")
		last := kv.Revision()
		w := must[*Watcher](t)(kv.Watch("", last))
		for i := range 20 {
			key := "k" + strconv.Itoa(i)
			if e := must[Entry](t)(kv.Get(key)); e.Revision != revisions[key] {
				t.Errorf("%v: %s has revision %d, want %d", when, key, e.Revision, revisions[key])
			}
			rev := must[uint64](t)(kv.Update(t.Context(), key, []byte("now"), revisions[key]))
			if rev <= last {
				t.Errorf("%v: revision %d comes after %d", when, rev, last)
			}
			last = rev
			if ev := must[Event](t)(w.Next(t.Context())); ev.Revision != rev || ev.Key != key {
				t.Errorf("%v: the watcher saw %s at %d, want %s at %d", when, ev.Key, ev.Revision, key, rev)
			}
		}
	}
}

// retime gives a record another time, with the checksum that belongs to it.
func (b *block) retime(r record, ns int64) {
	rec := b.data[r.off : r.off+r.len]
	binary.LittleEndian.PutUint64(rec[12:], uint64(ns))
	b.hash.Reset()
	b.hash.Write(rec[4:20])
	b.hash.Write(rec[recordHead : recordHead+len(r.subject)])
	at := recordHead + len(r.subject)
	if binary.LittleEndian.Uint32(rec)&headersBit != 0 {
		at += 4
	}
	b.hash.Write(rec[at : r.len-recordHash])
	b.hash.Sum(rec[:r.len-recordHash])
}
