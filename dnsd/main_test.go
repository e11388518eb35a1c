package dnsd

import (
	"flag"
	"os"
	"os/exec"
	"runtime"
	"testing"

	"github.com/shoal-project/shoal/proxy/nettest"
)

var update = flag.Bool("update", false, "rewrite golden files")

func init() { runtime.LockOSThread() } // Pdeathsig follows the thread

// TestMain runs the tests in a network namespace of their own, where port 53 is
// free and any address can be had.
func TestMain(m *testing.M) {
	if args := os.Getenv(goResolver); args != "" {
		os.Exit(lookUp(args))
	}
	nettest.Main(m)
}

func needNamespace(t testing.TB) {
	t.Helper()
	nettest.Need(t)
	if err := nettest.Up("lo"); err != nil {
		t.Fatal(err)
	}
}

func ip(t testing.TB, args ...string) {
	t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		t.Fatalf("ip %v: %v\n%s", args, err, out)
	}
}

func want(t testing.TB, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s:\ngot  %q\nwant %q", what, got, want)
	}
}
