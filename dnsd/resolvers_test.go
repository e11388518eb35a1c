package dnsd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// goResolver has the test's process look up the name that follows.
const goResolver = "DNSD_TEST_LOOKUP"

// lookUp prints what Go's own resolver finds, one address a line.
func lookUp(args string) int {
	network, host, _ := strings.Cut(args, " ")
	ips, err := (&net.Resolver{PreferGo: true}).LookupIP(context.Background(), network, host)
	for _, ip := range ips {
		fmt.Println(ip)
	}
	var failed *net.DNSError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &failed) && failed.IsNotFound:
		return 2
	case errors.As(err, &failed) && failed.IsTemporary:
		return 3
	}
	fmt.Fprintln(os.Stderr, err)
	return 4
}

// muslProgram prints what getaddrinfo finds, or exits with its error.
const muslProgram = `
#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
int main(int n, char **arg) {
	struct addrinfo hint = {.ai_socktype = SOCK_STREAM}, *all;
	hint.ai_family = !strcmp(arg[1], "ip4") ? AF_INET : !strcmp(arg[1], "ip6") ? AF_INET6 : AF_UNSPEC;
	int err = getaddrinfo(arg[2], "80", &hint, &all);
	if (err) return -err;
	for (; all; all = all->ai_next) {
		char s[99];
		getnameinfo(all->ai_addr, all->ai_addrlen, s, sizeof s, 0, 0, NI_NUMERICHOST);
		puts(s);
	}
	return 0;
}`

// resolvers are commands that take "ip", "ip4" or "ip6" and a name.
func resolvers(t *testing.T) map[string]func(network, name string) *exec.Cmd {
	t.Helper()
	found := map[string]func(string, string) *exec.Cmd{
		"go": func(network, name string) *exec.Cmd {
			cmd := exec.Command("/proc/self/exe")
			cmd.Env = append(os.Environ(), goResolver+"="+network+" "+name)
			return cmd
		},
		"glibc": func(network, name string) *exec.Cmd {
			return exec.Command("getent", map[string]string{"ip": "ahosts", "ip4": "ahostsv4", "ip6": "ahostsv6"}[network], name)
		},
	}
	if gcc, err := exec.LookPath("musl-gcc"); err != nil {
		t.Log("no musl (apt install musl-tools): its resolver is left out")
	} else {
		source, program := filepath.Join(t.TempDir(), "look.c"), filepath.Join(t.TempDir(), "look")
		if err := os.WriteFile(source, []byte(muslProgram), 0o644); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command(gcc, "-static", "-o", program, source).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		found["musl"] = func(network, name string) *exec.Cmd { return exec.Command(program, network, name) }
	}
	return found
}

// resolved runs a resolver with a resolv.conf of its own and tells the addresses
// that it found, sorted, or how it failed.
func resolved(t *testing.T, cmd *exec.Cmd, conf string) string {
	t.Helper()
	const mounted = `mount --bind "$0" /etc/resolv.conf && exec "$@"`
	inside := exec.Command("unshare", append([]string{"-m", "sh", "-c", mounted, conf, cmd.Path}, cmd.Args[1:]...)...)
	if cmd.Path == "/proc/self/exe" {
		inside.Args[6] = self(t)
	}
	inside.Env = cmd.Env
	out, err := inside.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return fmt.Sprintf("exit %d %s", exit.ExitCode(), exit.Stderr)
	}
	if err != nil {
		t.Fatal(err)
	}
	var ips []string
	for line := range strings.Lines(string(out)) {
		ips = append(ips, strings.Fields(line)[0])
	}
	slices.Sort(ips)
	return strings.Join(slices.Compact(ips), " ")
}

// TestResolversFindTheSameWithAndWithoutCompletion asks with real resolvers, for
// both types at once and for each alone, once as a pod whose walks the server
// completes, once as one that walks alone. That is the law; what is found is
// the check that something was.
func TestResolversFindTheSameWithAndWithoutCompletion(t *testing.T) {
	if testing.Short() {
		t.Skip("starts some hundred programs")
	}
	u := &upstream{do: worldly}
	s := startChanged(t, func(s *Server) { s.SetZone(Build(searchCluster())) }, up1)
	u.start(t, up1)
	alone := searchCluster()
	alone.Pods[0].Search = nil
	conf := filepath.Join(t.TempDir(), "resolv.conf")
	text := "search " + strings.Join(corpSearch, " ") + "\nnameserver " + listen.Addr().String() + "\noptions ndots:5 timeout:1 attempts:1\n"
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	asked := func() (n uint64) {
		for _, count := range s.Queries() {
			n += count
		}
		return n
	}
	names := []struct {
		name, want string // of both types
		questions  uint64 // the most, when completed
	}{
		{"web", "10.96.0.10", 2},
		{"web.default", "10.96.0.10", 2},
		{"dual.other", "10.96.0.11 fd00:96::b", 2},
		{"dual.other.svc.cluster.local", "10.96.0.11 fd00:96::b", 2},
		{"ext", "198.51.100.1 2001:db8::1", 2},
		{"host", "198.51.100.7", 2},
		{"both", "198.51.100.8", 2},
		{"half", "198.51.100.10", 2},
		{"example.org", "198.51.100.1 2001:db8::1", 2},
		{"example.org.", "198.51.100.1 2001:db8::1", 2},
		{"v4.example.org", "198.51.100.4", 2},
		{"v6.example.org", "2001:db8::6", 2},
		{"alias.example.org", "198.51.100.1 2001:db8::1", 2},
		{"a.b.c.d.e.f", "198.51.100.12", 2},
		{name: "default"}, {name: "none"}, {name: "lost"}, {name: "empty.example.org"}, {name: "leads.example.org"},
		{name: "nothing"}, {name: "nothing.example.org"}, {name: "nothing.a.b.c.d.e.f"}, {name: "broken.example.org"},
	}
	for resolver, command := range resolvers(t) {
		for _, c := range names {
			for _, network := range []string{"ip", "ip4", "ip6"} {
				what := fmt.Sprintf("%s %s %s", resolver, network, c.name)
				s.SetZone(Build(alone))
				walked := resolved(t, command(network, c.name), conf)
				s.SetZone(Build(searchCluster()))
				before := asked()
				completed := resolved(t, command(network, c.name), conf)
				questions := asked() - before
				if completed != walked {
					t.Errorf("%s: completed %q, walked %q", what, completed, walked)
				}
				if c.want == "" && !strings.HasPrefix(walked, "exit") && !(resolver != "musl" && c.name == "none") {
					t.Errorf("%s: found %q", what, walked)
				}
				if c.want != "" && network == "ip" {
					want(t, what, completed, c.want)
					if questions > c.questions {
						t.Errorf("%s took %d questions, want %d", what, questions, c.questions)
					}
				}
			}
		}
	}
}

// self is the test's program, whose name is relative to where it was started.
func self(t *testing.T) string {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return path
}
