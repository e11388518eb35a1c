package image

import (
	"testing"
	"time"
)

func TestOnlyWhatNobodyUsedForLongAndNoFileHoldsIsCollected(t *testing.T) {
	reg := newRegistry(t)
	shared := layerOf(t, file("shared", "shared by two images"))
	reg.push(t, "a:1", hostImage(t, shared, layerOf(t, file("a", "only in a"))))
	reg.push(t, "b:1", hostImage(t, shared, layerOf(t, file("b", "only in b"))))
	s := openStore(t, Config{Dir: t.TempDir(), DropIn: t.TempDir()})
	pull := func(name string) Image {
		img, err := s.Pull(t.Context(), reg.host+"/"+name, PullOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return img
	}
	a, b := pull("a:1"), pull("b:1")
	if a.Added.IsZero() || a.Pinned == false {
		t.Errorf("before the drop-ins are read nothing may go: added %s, pinned %t", a.Added, a.Pinned)
	}
	s.LoadDropIns(t.Context())
	nobody := func(string) bool { return false }
	used := a.LastUsed
	for _, test := range []struct {
		what  string
		since time.Time
		inUse func(string) bool
	}{
		{"one that was used since", used.Add(-time.Second), nobody},
		{"one that a container runs from", used.Add(time.Hour), func(id string) bool { return id == a.ID }},
	} {
		if freed, err := s.Collect(a.ID, test.since, test.inUse); err != nil || freed != 0 {
			t.Errorf("%s: freed %d, %v", test.what, freed, err)
		}
	}
	later := used.Add(time.Hour)
	s.Touch(map[string]bool{b.ID: true}, later)
	freed, err := s.Collect(a.ID, used.Add(time.Minute), nobody)
	if err != nil || freed <= 0 || freed >= a.Size {
		t.Errorf("freed %d of %d bytes, %v: want those of the layer that b does not have", freed, a.Size, err)
	}
	if freed, err := s.Collect(b.ID, used.Add(time.Minute), nobody); err != nil || freed != 0 {
		t.Errorf("b was touched since: freed %d, %v", freed, err)
	}
	if freed, err := s.Collect(a.ID, later, nobody); err != nil || freed != 0 {
		t.Errorf("what is gone: freed %d, %v", freed, err)
	}
	if _, err := s.Get(reg.host + "/a:1"); err == nil {
		t.Error("a is still there")
	}
	left, err := s.List()
	if err != nil || len(left) != 1 || left[0].ID != b.ID || !left[0].LastUsed.Equal(later) {
		t.Errorf("left %+v, %v", left, err)
	}
}
