package record

import (
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	bolt "go.etcd.io/bbolt"
)

func open(t *testing.T, path string) *Store {
	t.Helper()
	s, err := Open(path, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestWhatWasSavedIsThereAfterReopening(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	s := open(t, path)
	r := New("n1", 7)
	s.Save(r.Publish(1, values("a", `{"x":1}`, "b", `2`)))
	s.Save(r.Publish(2, values("b", "", "c", `3`)))
	if err := s.SetMeta("cluster", "abc"); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, path)
	defer s.Close()
	records, err := s.Load()
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(records["n1"], r) {
		t.Errorf("got %+v\nwant %+v", records["n1"], r)
	}
	if got := s.Meta("cluster"); got != "abc" {
		t.Errorf("meta: got %q", got)
	}
}

func TestAWholeRecordReplacesWhatIsStored(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "store.db"))
	defer s.Close()
	r := New("n1", 1)
	s.Save(r.Publish(1, values("a", `1`, "b", `2`)))
	s.Save(r.Publish(2, values("a", "")))
	r.Compact(r.Seq)
	s.Save(r.Since(0))
	if err := s.Flush(); err != nil {
		t.Fatal(err)
	}
	records, _ := s.Load()
	if !reflect.DeepEqual(records["n1"], r) {
		t.Errorf("got %+v\nwant %+v", records["n1"], r)
	}
}

func TestADamagedStoreIsMovedAsideAndNotLost(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	if err := os.WriteFile(path, []byte("this is no database, but it was somebody's data"), 0o600); err != nil {
		t.Fatal(err)
	}
	open(t, path).Close()
	aside, _ := filepath.Glob(path + ".damaged-*")
	if len(aside) != 1 {
		t.Fatalf("moved aside: %v", aside)
	}
}

func TestAStoreOfANewerVersionIsRefusedAndLeftAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	open(t, path).Close()
	db, err := bolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	db.Update(func(tx *bolt.Tx) error { return tx.Bucket(metaBucket).Put([]byte("format"), []byte("2")) })
	db.Close()
	if _, err := Open(path, slog.New(slog.DiscardHandler)); !errors.Is(err, ErrNewer) {
		t.Fatalf("got %v, want ErrNewer", err)
	}
	if aside, _ := filepath.Glob(path + ".damaged-*"); len(aside) != 0 {
		t.Errorf("moved aside: %v", aside)
	}
}

// TestAStoredRecordIsHandedOnOnlyAsItWasSigned: by deltas of all forms, with a
// damaged byte, and after compaction.
func TestAStoredRecordIsHandedOnOnlyAsItWasSigned(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	s := open(t, path)
	o, peer := owner{New("n1", 1)}, New("n1", 1)
	take := func(d Delta) {
		t.Helper()
		if _, err := peer.MergeSigned(d, isOf("n1")); err != nil {
			t.Fatal(err)
		}
		s.Save(d)
	}
	reopened := func() *Record {
		t.Helper()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open(t, path)
		records, err := s.Load()
		if err != nil {
			t.Fatal(err)
		}
		return records["n1"]
	}
	take(o.publish(1, values("a", `1`, "b", `2`)))
	take(o.publish(2, values("b", "", "c", `3`)))
	o.Compact(o.Seq)
	o.Sign(cluster, keyOf("n1"))
	take(o.Since(peer.Seq))
	o = o.restart(o.Record)
	o.publish(3, values("c", "", "d", `4`))
	take(o.Parts(o.Differing(peer.Hashes())))
	if r := reopened(); r.Head().Compare(o.Head()) != 0 || isOf("n1")(r.Head()) != nil || r.Root() != o.Root() {
		t.Fatalf("got %+v of %v\nwant %+v of %v", r.Head(), contents(r), o.Head(), contents(o.Record))
	}
	err := s.db.Update(func(tx *bolt.Tx) error {
		v, _ := json.Marshal(Entry{Name: Name{Claims, "a"}, Value: json.RawMessage(`7`), Stamp: 1, Seq: 1})
		return tx.Bucket(recordsBucket).Bucket([]byte("n1")).Bucket(entriesBucket).Put([]byte("claim a"), v)
	})
	if err != nil {
		t.Fatal(err)
	}
	r := reopened()
	if r.Seq != 0 || len(contents(r)) != 2 {
		t.Fatalf("a damaged record: %+v", r)
	}
	if err := pull(r, o.Record); err != nil || r.Root() != o.Root() {
		t.Errorf("asked for again: %v", err)
	}
	s.Close()
}

func TestADraftRemembersTheLastSignedHead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	s, err := Open(path, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	r := New("n1", 3)
	r.Publish(1, map[Name]json.RawMessage{{Claims, "a"}: []byte(`1`)})
	signed := r.Sign("c", key)
	s.Save(r.Since(0))
	for _, v := range []string{`2`, `3`} {
		s.Save(r.Publish(2, map[Name]json.RawMessage{{Claims, "a"}: []byte(v)}))
	}
	s.Save(r.Since(0)) // as when it is compacted
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s.Save(r.Since(0)) // too late, and no harm
	if s, err = Open(path, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	all, err := s.Load()
	if err != nil {
		t.Fatal(err)
	}
	if got := all["n1"].Signed(); got.Compare(signed) != 0 || got.Verify("c", key.Public().(ed25519.PublicKey)) != nil {
		t.Errorf("got %+v, want %+v", got, signed)
	}
	if h := all["n1"].Head(); h.Signature != nil || h.Seq != 3 {
		t.Errorf("the draft's head is %+v", h)
	}
	s.Forget("n1")
	if err := s.Flush(); err != nil {
		t.Fatal(err)
	}
	if all, err = s.Load(); err != nil || len(all) != 0 {
		t.Errorf("forgotten: %v, %v", all, err)
	}
}
