package volume

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestVariablesAreReadFromFiles(t *testing.T) {
	dir := t.TempDir()
	outside := filepath.Join(t.TempDir(), "outside")
	for path, text := range map[string]string{
		outside:                       "A='outside'\n",
		filepath.Join(dir, "env"):     "# all\n  A='one' # first\n\nB='two\nlines $A'\nNONE=''\n",
		filepath.Join(dir, "bare"):    "A=one\n",
		filepath.Join(dir, "open"):    "A='one\n",
		filepath.Join(dir, "large"):   "A='" + strings.Repeat("x\n", maxEnvFile/2) + "'\n",
		filepath.Join(dir, "a", "of"): "A='below'\n",
	} {
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(unix.Mkfifo(filepath.Join(dir, "pipe"), 0o600), os.Symlink("a/of", filepath.Join(dir, "link")),
		os.Symlink("/a/of", filepath.Join(dir, "absolute")), os.Symlink(outside, filepath.Join(dir, "out")),
		os.Symlink("../../../../../../../../"+outside, filepath.Join(dir, "up")),
		os.Symlink("/proc/self/environ", filepath.Join(dir, "magic"))); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ file, key, want, fails string }{
		{"env", "A", "one", ""},
		{"env", "B", "two\nlines $A", ""},
		{"env", "NONE", "", ""},
		{"env", "C", "", ""},
		{"a/of", "A", "below", ""},
		{"link", "A", "below", ""},
		{"absolute", "A", "below", ""},
		{"bare", "A", "", "couldn't parse env file: bare: invalid environment variable format at line 1: value must be enclosed in single quotes"},
		{"open", "A", "", "couldn't parse env file: open: invalid environment variable format starting at line 1: unclosed single quote"},
		{"large", "A", "", "couldn't parse env file: large is larger than 1048576 bytes, the most that a file of variables may have"},
		{"pipe", "A", "", "couldn't parse env file: pipe is no plain file"},
		{"a", "A", "", "couldn't parse env file: a is no plain file"},
		{"none", "A", "", "couldn't parse env file: none: no such file or directory"},
		{"out", "A", "", "couldn't parse env file: out: no such file or directory"},
		{"up", "A", "", "couldn't parse env file: up: no such file or directory"},
		{"magic", "A", "", "couldn't parse env file: magic: no such file or directory"},
	} {
		got, err := EnvFile(Mounted{Path: dir}, c.file, c.key)
		said := ""
		if err != nil {
			said = err.Error()
		}
		if got != c.want || said != c.fails {
			t.Errorf("%s of %s: got %q, %q; want %q, %q", c.key, c.file, got, said, c.want, c.fails)
		}
	}
	if _, err := EnvFile(Mounted{Path: dir}, "none", "A"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file is %v", err)
	}
}
