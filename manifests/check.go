package manifests

import (
	"fmt"
	"os"
)

// CheckData is the state of a single file with these bytes, as Scan would find
// it; it is what "shoal validate -" tells.
func CheckData(name string, data []byte) Set {
	f := File{Path: name}
	f.Objects, f.Problems = Decode(name, data)
	f.Stale = len(f.Problems) > 0
	set := Set{}
	set.Files, set.Claims = assemble([]File{f})
	return set
}

// CheckPath is the state of a file, of any name, or of all that a source at
// this directory would hold; it is what "shoal validate" tells. Unlike a
// daemon it takes files as they are, even if they are being written: Ansible's
// validate hands over a file that it has only just closed, or not yet. The
// error is that there is nothing at path to be read.
func CheckPath(path string) (Set, error) {
	info, err := os.Stat(path)
	if err != nil {
		return Set{}, err
	}
	if info.IsDir() {
		r := NewReader([]Source{{Dir: path}})
		r.files = asTheyAre{}
		return r.Scan(), nil
	}
	c, err := asTheyAre{}.Read(path)
	if err != nil {
		return Set{}, fmt.Errorf("%s: %s", path, reason(err))
	}
	return CheckData(path, c.Data), nil
}

// asTheyAre reads files without regard to who writes them.
type asTheyAre struct{ osFiles }

func (f asTheyAre) Read(path string) (content, error) {
	c, err := f.osFiles.Read(path)
	c.Busy = false
	return c, err
}
