package fleet

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/shoal-project/shoal/packaging/testbed/bed"
)

// controller is the machine in its part as the one that Ansible runs on.
type controller struct {
	cluster
	dir, program string
}

// recap is what Ansible says of a host at the end.
var recap = regexp.MustCompile(`(?m)^(n\d) +: ok=\d+ +changed=(\d+) +unreachable=(\d+) +failed=(\d+)`)

func newController(c cluster) controller {
	c.Helper()
	program, err := bed.Program(c.Context())
	if err != nil {
		c.Fatal(err)
	}
	deb, err := bed.Package()
	if err != nil {
		c.Fatal(err)
	}
	role, err := filepath.Abs("../../ansible")
	if err != nil {
		c.Fatal(err)
	}
	connection, err := filepath.Abs("testdata/connection")
	if err != nil {
		c.Fatal(err)
	}
	a := controller{c, c.TempDir(), program}
	a.write("ansible.cfg", fmt.Sprintf("[defaults]\nroles_path = %s/roles\nconnection_plugins = %s\npipelining = true\n", role, connection))
	inventory := "shoal:\n  hosts:\n"
	for _, name := range c.HostNames() {
		inventory += fmt.Sprintf("    %s: {shoal_labels: {example.org/rack: %q}}\n", name, "rack-"+name)
	}
	a.write("inventory.yml", inventory+fmt.Sprintf(`  vars:
    ansible_connection: testbed
    ansible_user: root
    ansible_python_interpreter: /usr/bin/python3
    shoal_deb: %s
    shoal_manifests: %s/manifests
    shoal_manifests_purge: true
`, deb, a.dir))
	playbook, err := os.ReadFile(filepath.Join(role, "site.yml"))
	if err != nil {
		c.Fatal(err)
	}
	a.write("site.yml", string(playbook))
	return a
}

func (a controller) write(name, text string) {
	a.Helper()
	path := filepath.Join(a.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		a.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		a.Fatal(err)
	}
}

// play runs the playbook and returns what it printed.
func (a controller) play(args ...string) (string, error) {
	a.Helper()
	cmd := exec.CommandContext(a.Context(), "ansible-playbook", append([]string{"-i", "inventory.yml", "site.yml"}, args...)...)
	cmd.Dir = a.dir
	cmd.Env = append(os.Environ(), "SHOAL_TESTBED_PROGRAM="+a.program, "SHOAL_TESTBED_BED="+a.Name(), "ANSIBLE_NOCOLOR=1", "HOME="+a.dir)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// plays runs the playbook, which must succeed, and returns how many tasks changed something on each host.
func (a controller) plays(args ...string) map[string]string {
	a.Helper()
	out, err := a.play(args...)
	if err != nil {
		a.Fatalf("ansible-playbook %q: %v\n%s", args, err, out)
	}
	changed := map[string]string{}
	for _, m := range recap.FindAllStringSubmatch(out, -1) {
		changed[m[1]] = m[2]
	}
	if got := slices.Sorted(maps.Keys(changed)); !slices.Equal(got, a.HostNames()) {
		a.Fatalf("hosts %q, want %q, in\n%s", got, a.HostNames(), out)
	}
	return changed
}

// changesNothing runs the playbook, and sees that it says so.
func (a controller) changesNothing(args ...string) {
	a.Helper()
	for host, n := range a.plays(args...) {
		if n != "0" {
			out, _ := a.play(append(args, "-v", "--diff")...)
			a.Errorf("ansible-playbook %q: %s changed on %s; the next run says\n%s", args, n, host, out)
		}
	}
}

// refused runs the playbook, which must fail with these words and leave every host as it was.
func (a controller) refused(words ...string) {
	a.Helper()
	before := a.etc()
	out, err := a.play()
	if err == nil {
		a.Fatalf("it succeeded:\n%s", out)
	}
	for _, want := range words {
		if !strings.Contains(out, want) {
			a.Errorf("%q is not in\n%s", want, out)
		}
	}
	if after := a.etc(); !maps.Equal(after, before) {
		a.Errorf("it failed and changed something: %q, was %q", after, before)
	}
}

// etc is what would tell that something was changed on each host: its settings and which process is the daemon.
func (a controller) etc() map[string]string {
	a.Helper()
	all := map[string]string{}
	for _, host := range a.HostNames() {
		all[host] = a.sh(host, "find /etc/shoal -type f | sort | xargs ls -l --time-style=full-iso; find /etc/shoal -type f | sort | xargs sha256sum; systemctl show shoald -p MainPID")
	}
	return all
}

const greeting = `apiVersion: v1
kind: ConfigMap
metadata: {name: greeting}
data: {word: %s}
`

func TestAnsibleSetsUpACluster(t *testing.T) {
	needs(t, "ansible-playbook")
	a := newController(newBed(t, bed.Config{Hosts: 3, Packages: []string{"python3", "python3-apt"}}))
	a.write("manifests/greeting.yaml", fmt.Sprintf(greeting, "hello"))
	a.write("manifests/more.yml", strings.ReplaceAll(fmt.Sprintf(greeting, "more"), "greeting", "more"))

	for host, n := range a.plays("--check") {
		if got := a.sh(host, "ls -d /etc/shoal /var/cache/shoal.deb 2>/dev/null || true"); got != "" {
			t.Errorf("check mode left %s (and said %s changed)", got, n)
		}
	}
	a.plays()
	a.changesNothing()
	keys := map[string]bool{}
	for _, host := range a.HostNames() {
		keys[a.sh(host, "cat /etc/shoal/cluster.key")] = true
		if got, want := a.sh(host, "stat -c '%a %U:%G' /etc/shoal/cluster.key /etc/shoal/manifests/greeting.yaml"), "600 root:root\n640 root:shoal"; got != want {
			t.Errorf("%s: key and manifest have %q, want %q", host, got, want)
		}
		a.show([]string{host}, "rack-"+host, "shoal get node "+host+` -o jsonpath='{.metadata.labels.example\.org/rack}'`)
	}
	if len(keys) != 1 {
		t.Fatalf("%d keys, want 1", len(keys))
	}
	a.together(a.HostNames()...)
	a.show(a.HostNames(), "hello", "shoal get configmap greeting -o jsonpath='{.data.word}'")

	// The good edit, whose name comes first, is not copied either.
	a.write("manifests/greeting.yaml", fmt.Sprintf(greeting, "good bye"))
	a.write("manifests/wrong.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: wrong}\ndata: {number: 1, word: }\n")
	a.refused("wrong.yaml", ":4:16: data[number]")
	if err := os.Remove(filepath.Join(a.dir, "manifests/wrong.yaml")); err != nil {
		t.Fatal(err)
	}
	a.write("group_vars/shoal.yml", "shoal_config: |\n  [dns]\n  upstream = []\n")
	a.refused("/dev/stdin:", `unknown key \"dns.upstream\"`)
	a.write("group_vars/shoal.yml", "{}")

	if err := os.Remove(filepath.Join(a.dir, "manifests/more.yml")); err != nil {
		t.Fatal(err)
	}
	a.plays()
	a.show(a.HostNames(), "good bye", "shoal get configmap greeting -o jsonpath='{.data.word}'")
	a.show(a.HostNames(), "configmap/greeting", "shoal get configmap greeting more -o name --ignore-not-found")
}
