package bed

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// suite is the Debian release that hosts and images are made of.
const suite = "bookworm"

// defaultSource is used where the machine's own apt knows no mirror of suite.
const defaultSource = `Types: deb
URIs: http://deb.debian.org/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://deb.debian.org/debian-security
Suites: bookworm-security
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
`

// aptSource is where packages come from: the machine's own sources of suite, if it has any.
func aptSource() string {
	paths, _ := filepath.Glob("/etc/apt/sources.list.d/*.sources")
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err == nil && offersSuite(string(text)) {
			return string(text)
		}
	}
	if text, err := os.ReadFile("/etc/apt/sources.list"); err == nil && offersSuite(string(text)) {
		return string(text)
	}
	return defaultSource
}

// offersSuite tells whether an apt source, in either of its formats, names the suite itself and not only its updates.
func offersSuite(text string) bool {
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		words := strings.Fields(line)
		if len(words) > 1 && (words[0] == "Suites:" || words[0] == "deb") {
			for _, word := range words[1:] {
				if word == suite {
					return true
				}
			}
		}
	}
	return false
}

// debootstrap makes a Debian root in dir. The hook is a shell script that runs on the machine with the root as $1.
func debootstrap(ctx context.Context, dir, variant string, packages []string, hook string) error {
	source := dir + ".sources"
	if err := os.WriteFile(source, []byte(aptSource()), 0o600); err != nil {
		return err
	}
	defer os.Remove(source)
	args := []string{"--mode=root", "--quiet", "--format=directory", "--variant=" + variant,
		"--aptopt=APT::Install-Recommends \"false\"", "--include=" + strings.Join(packages, ",")}
	for _, option := range aptProxies(ctx) {
		args = append(args, "--aptopt="+option)
	}
	args = append(args, "--customize-hook="+hook, suite, dir, source)
	return runTool(exec.CommandContext(ctx, "mmdebstrap", args...))
}

// aptProxies are the machine's own settings of how apt reaches its mirrors.
func aptProxies(ctx context.Context) []string {
	out, err := exec.CommandContext(ctx, "apt-config", "dump", "Acquire::http::Proxy", "Acquire::https::Proxy").Output()
	if err != nil {
		return nil
	}
	var options []string
	for line := range strings.Lines(string(out)) {
		if line = strings.TrimSuffix(strings.TrimSpace(line), ";"); !strings.HasSuffix(line, `""`) && line != "" {
			options = append(options, line)
		}
	}
	return options
}

// runTool runs a command and returns the end of what it wrote when it fails.
func runTool(cmd *exec.Cmd) error {
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	if errors.Is(err, exec.ErrNotFound) {
		return fmt.Errorf("%w; `testbed deps` installs it", err)
	}
	if err != nil {
		return fmt.Errorf("%s: %w: %s", cmd.Args[0], err, tail(out.Bytes(), 2000))
	}
	return nil
}

func tail(b []byte, n int) string { return string(bytes.TrimSpace(b[max(0, len(b)-n):])) }

// tools are the Debian packages that a machine needs to have beds.
var tools = []string{"mmdebstrap", "systemd-container", "iproute2", "nftables", "docker-registry", "e2fsprogs",
	"qemu-system-x86", "qemu-utils", "debian-archive-keyring"}

// InstallTools installs with apt what the machine lacks. It starts no service.
func InstallTools(ctx context.Context) error {
	var missing []string
	for _, name := range tools {
		out, err := exec.CommandContext(ctx, "dpkg-query", "-W", "-f=${db:Status-Status}", name).Output()
		if err != nil || string(out) != "installed" {
			missing = append(missing, name)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	if err := runTool(exec.CommandContext(ctx, "apt-get", "update", "-q")); err != nil {
		return err
	}
	install := exec.CommandContext(ctx, "apt-get", append([]string{"install", "-qy", "--no-install-recommends"}, missing...)...)
	// RUNLEVEL=1 makes invoke-rc.d leave services alone: docker-registry would start on the machine itself.
	install.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1")
	return runTool(install)
}
