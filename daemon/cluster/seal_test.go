package cluster

import (
	"bytes"
	"errors"
	"testing"
)

func TestOnlyTheClustersKeysOpenWhatIsSealed(t *testing.T) {
	old, next, other := NewKey(), NewKey(), NewKey()
	plain := []byte("correct horse")
	sealed := NewKeyring(old).Seal("default/a", plain)
	if bytes.Contains(sealed, plain) {
		t.Error("it is not sealed")
	}
	if !bytes.Equal(sealed, NewKeyring(old).Seal("default/a", plain)) {
		t.Error("the same is sealed differently: nodes would publish it again and again")
	}
	if bytes.Equal(sealed[:12], NewKeyring(old).Seal("default/a", []byte("correct house"))[:12]) {
		t.Error("two contents have one nonce")
	}
	if got, err := NewKeyring(next, old).Open("default/a", sealed); err != nil || !bytes.Equal(got, plain) {
		t.Errorf("amid a rotation: %q, %v", got, err)
	}
	broken := bytes.Clone(sealed)
	broken[len(broken)-1] ^= 1
	for name, open := range map[string]func() ([]byte, error){
		"another cluster's key":    func() ([]byte, error) { return NewKeyring(other).Open("default/a", sealed) },
		"moved to another's place": func() ([]byte, error) { return NewKeyring(old).Open("default/b", sealed) },
		"changed":                  func() ([]byte, error) { return NewKeyring(old).Open("default/a", broken) },
		"cut off":                  func() ([]byte, error) { return NewKeyring(old).Open("default/a", sealed[:5]) },
		"without a key":            func() ([]byte, error) { return Keyring{}.Open("default/a", sealed) },
	} {
		if got, err := open(); !errors.Is(err, ErrSealed) {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
	}
}
