package identity

import (
	"os"
	"path/filepath"
	"testing"
)

func TestTheKeyIsMadeOnceAndReadByRootAlone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "identity")
	first, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	again, err := Open(dir)
	if err != nil || !first.Equal(again) {
		t.Errorf("the second key is another one, or %v", err)
	}
	info, err := os.Stat(filepath.Join(dir, keyFile))
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("got %v, %v", info.Mode(), err)
	}
}

func TestADamagedKeyIsNotReplaced(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, keyFile)
	if err := os.WriteFile(path, []byte("half a key"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir); err == nil {
		t.Error("no error")
	}
	if data, _ := os.ReadFile(path); string(data) != "half a key" {
		t.Errorf("now it is %q", data)
	}
}
