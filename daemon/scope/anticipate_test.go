package scope

import (
	"errors"
	"io/fs"
	"os"
	"testing"
)

func TestAnticipateLeavesThisProcessWhereItIs(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to write to a cgroup")
	}
	before, err := ownCgroup()
	if err != nil {
		t.Skip("no cgroup v2: ", err)
	}
	if err := Anticipate(); errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrNotExist) {
		t.Skip("this process may not write to its own cgroup: ", err)
	} else if err != nil {
		t.Fatal(err)
	}
	if after, err := ownCgroup(); err != nil || after != before {
		t.Errorf("in cgroup %s afterwards (%v), was in %s", after, err, before)
	}
}
