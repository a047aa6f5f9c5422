package flow

import "testing"

// What a table takes is known before it is made.
func TestTableBytes(t *testing.T) {
	for _, o := range []Options{
		{Max: 1, Key: [2]uint64{1, 2}},
		{Max: 20_000, Buckets: 1024, Key: [2]uint64{1, 2}, Sparse: true},
		{Max: 100, Bindings: 300, Key: [2]uint64{1, 2}},
	} {
		table, err := New(o)
		if err != nil {
			t.Fatal(err)
		}
		if got := TableBytes(o); got != table.Bytes() {
			t.Errorf("%+v: %d bytes, want %d", o, got, table.Bytes())
		}
		if err := table.Close(); err != nil {
			t.Error(err)
		}
	}
}
