package container

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	imgv1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/tools/txtar"
	v1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// TestSpec runs the cases of testdata/spec. Each has a pod (its first container
// is the one meant), perhaps image.yaml, config.yaml (Config's own fields),
// passwd and group; show lists the beginnings of the lines that the case is
// about, and want is what the specification says there, or the error.
func TestSpec(t *testing.T) {
	files, err := filepath.Glob("testdata/spec/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			cfg, show := specCase(t, archive)
			got := describe(cfg, show)
			i := slices.IndexFunc(archive.Files, func(f txtar.File) bool { return f.Name == "want" })
			if *update {
				if i < 0 {
					archive.Files, i = append(archive.Files, txtar.File{Name: "want"}), len(archive.Files)
				}
				archive.Files[i].Data = []byte(got)
				if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if i < 0 || string(archive.Files[i].Data) != got {
				t.Errorf("got:\n%s\nwant:\n%s", got, archive.Files[i].Data)
			}
		})
	}
}

func specCase(t *testing.T, archive *txtar.Archive) (Config, []string) {
	t.Helper()
	cfg := Config{
		ID: "0123456789abcdef", Rootfs: "/merged", CgroupParent: "shoal.slice/web.scope",
		Sandbox: Sandbox{Hostname: "web", NetNS: "/proc/42/ns/net", UTSNS: "/proc/42/ns/uts", IPCNS: "/proc/42/ns/ipc", Shm: "/run/shm"},
		Host:    Host{Hostname: "node1", Devices: []specs.LinuxDevice{{Path: "/dev/kvm", Type: "c", Major: 10, Minor: 232}}},
		Image:   imgv1.Config{Cmd: []string{"sh"}},
	}
	var show []string
	for _, f := range archive.Files {
		var err error
		switch f.Name {
		case "pod.yaml":
			cfg.Pod = &v1.Pod{}
			err = yaml.UnmarshalStrict(f.Data, cfg.Pod)
			cfg.Container = &cfg.Pod.Spec.Containers[0]
		case "image.yaml":
			cfg.Image = imgv1.Config{}
			err = yaml.UnmarshalStrict(f.Data, &cfg.Image)
		case "config.yaml":
			err = yaml.UnmarshalStrict(f.Data, &cfg)
		case "passwd":
			cfg.Host.Passwd = f.Data
		case "group":
			cfg.Host.Group = f.Data
		case "profile.json":
			cfg.Host.SeccompProfile = f.Data
		case "show":
			show = strings.Split(strings.TrimSpace(string(f.Data)), "\n")
		}
		if err != nil {
			t.Fatalf("%s: %v", f.Name, err)
		}
	}
	return cfg, show
}

// describe is the specification, one thing a line, or the error.
func describe(cfg Config, show []string) string {
	spec, err := Spec(cfg)
	if err != nil {
		var typed *Error
		if !errors.As(err, &typed) {
			return fmt.Sprintf("untyped error: %v\n", err)
		}
		return fmt.Sprintf("%s: %v\n", typed.Reason, err)
	}
	var b strings.Builder
	for _, line := range lines(spec) {
		if len(show) == 0 || slices.ContainsFunc(show, func(p string) bool { return strings.HasPrefix(line, p) }) {
			fmt.Fprintln(&b, line)
		}
	}
	return b.String()
}

func lines(s *specs.Spec) []string {
	var out []string
	add := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	p := s.Process
	add("args %s", toJSON(p.Args))
	add("cwd %s", p.Cwd)
	for _, kv := range p.Env {
		add("env %s", kv)
	}
	add("user %d:%d groups %v", p.User.UID, p.User.GID, p.User.AdditionalGids)
	add("terminal %v", p.Terminal)
	add("nonewprivs %v", p.NoNewPrivileges)
	add("apparmor %q", p.ApparmorProfile)
	add("oomscoreadj %d", *p.OOMScoreAdj)
	for _, r := range p.Rlimits {
		add("rlimit %s %d %d", r.Type, r.Soft, r.Hard)
	}
	add("caps %s", strings.ReplaceAll(strings.Join(p.Capabilities.Bounding, " "), "CAP_", ""))
	if !slices.Equal(p.Capabilities.Bounding, p.Capabilities.Effective) || !slices.Equal(p.Capabilities.Bounding, p.Capabilities.Permitted) {
		add("caps differ between sets")
	}
	add("caps inheritable %v ambient %v", p.Capabilities.Inheritable, p.Capabilities.Ambient)
	add("root %s readonly %v", s.Root.Path, s.Root.Readonly)
	for _, m := range s.Mounts {
		add("mount %s %s %s %s", m.Destination, m.Type, m.Source, strings.Join(m.Options, ",")+describeIDs(m.UIDMappings, m.GIDMappings))
	}
	if ids := describeIDs(s.Linux.UIDMappings, s.Linux.GIDMappings); ids != "" {
		add("namespace has%s", ids)
	}
	for _, ns := range s.Linux.Namespaces {
		add("namespace %s", strings.TrimSpace(string(ns.Type)+" "+ns.Path))
	}
	add("propagation %q", s.Linux.RootfsPropagation)
	add("cgroup %q", s.Linux.CgroupsPath)
	if s.Linux.Resources != nil {
		add("resources %s", toJSON(s.Linux.Resources))
	}
	for _, m := range s.Linux.MaskedPaths {
		if !strings.HasPrefix(m, "/sys/devices/system/cpu/") { // Kubernetes' code looks at the machine for these
			add("masked %s", m)
		}
	}
	for _, m := range s.Linux.ReadonlyPaths {
		add("readonly %s", m)
	}
	for _, d := range s.Linux.Devices {
		add("device %s %s %d:%d", d.Path, d.Type, d.Major, d.Minor)
	}
	add("seccomp %s", describeSeccomp(s.Linux.Seccomp))
	return out
}

func describeIDs(users, groups []specs.LinuxIDMapping) string {
	out := ""
	for _, m := range users {
		out += fmt.Sprintf(" ids %d=%d+%d", m.ContainerID, m.HostID, m.Size)
	}
	if !slices.Equal(users, groups) {
		out += " groups differ"
	}
	return out
}

// describeSeccomp names the default action and how three telling calls fare.
func describeSeccomp(s *specs.LinuxSeccomp) string {
	if s == nil {
		return "none"
	}
	out := string(s.DefaultAction)
	for _, call := range []string{"read", "mount", "reboot"} {
		action := s.DefaultAction
		for _, rule := range s.Syscalls {
			if slices.Contains(rule.Names, call) && len(rule.Args) == 0 {
				action = rule.Action
			}
		}
		out += fmt.Sprintf(" %s=%s", call, action)
	}
	return strings.ReplaceAll(out, "SCMP_ACT_", "")
}

func toJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(b)
}
