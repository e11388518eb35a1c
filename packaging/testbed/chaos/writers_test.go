package chaos

import (
	"slices"
	"strings"
	"testing"
)

func TestOverlappingWritersAreCaught(t *testing.T) {
	for _, c := range []struct{ name, log, want string }{
		{"one after the other", "db 1 1.00 n1/a\ndb 1 2.00 n1/a\ndb 4 9.00 n2/b\ndb 4 9.50 n2/b\n", ""},
		{"a container that is started again", "db 1 1.00 n1/a0\ndb 1 2.00 n1/a1\n", ""},
		{"two identities at once", "db 1 1.00 n1/a\nweb 1 1.00 n2/b\ndb 1 2.00 n1/a\nweb 1 2.00 n2/b\n", ""},
		{"at the same tick", "db 1 1.00 n1/a\ndb 2 1.00 n2/b\ndb 2 1.10 n2/b\n", ""},
		{"amid the last line the power was cut", "db 1 1.00 n1/a\ndb 1 1.", ""},
		{"in turns", "db 1 1.00 n1/a\ndb 2 2.00 n2/b\ndb 1 3.00 n1/a\n", "db: n2/b with token 2 at 2.00s began before n1/a with token 1 at 3.00s ended"},
		{"one line of the older one late", "db 1 1.00 n1/a\ndb 2 2.00 n2/b\ndb 2 3.00 n2/b\ndb 1 2.01 n1/a\n", "began before n1/a with token 1 at 2.01s ended"},
		{"one within the other", "db 1 1.00 n1/a\ndb 1 9.00 n1/a\ndb 2 3.00 n2/b\ndb 2 4.00 n2/b\n", "db: n2/b with token 2 at 3.00s began before"},
		{"two of one host", "db 1 1.00 n1/a\ndb 1 3.00 n1/a\ndb 1 2.00 n1/b\n", "db: n1/b with token 1 at 2.00s began before"},
		{"a token that goes back", "db 5 1.00 n1/a\ndb 4 2.00 n2/b\n", "db: n2/b with token 4 at 2.00s came after n1/a with token 5 at 1.00s"},
		{"one token on two hosts", "db 5 1.00 n1/a\ndb 5 2.00 n2/b\n", "db: n1 and n2 had token 5"},
		{"a process whose token changes", "db 5 1.00 n1/a\ndb 6 2.00 n1/a\n", "a process' token changed"},
	} {
		list, err := ReadAppended(c.log)
		if err != nil {
			t.Fatal(err)
		}
		got := Overlaps(list)
		if c.want == "" && len(got) > 0 || c.want != "" && !slices.ContainsFunc(got, func(o string) bool { return strings.Contains(o, c.want) }) {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
	for _, bad := range []string{"db 1 1.00\n", "db one 1.00 n1/a\n", "db 1 late n1/a\n"} {
		if _, err := ReadAppended(bad); err == nil {
			t.Errorf("%q is read", bad)
		}
	}
}
