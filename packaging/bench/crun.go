package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// crun runs the bundle that Shoal makes of the same pod, with a network namespace, a veth on a bridge, an overlay and a
// cgroup like Shoal's, made by this program: the least that any such pod costs.
type crun struct {
	processes
	bundle  specs.Spec // Shoal's, whose paths are replaced
	etc     string     // copies of the files that it mounts from the pod's directory
	net     *network
	counted bool // making those is part of the start
	bare    bool // crun alone: no overlay, no veth, no cgroup

}

// newCrun takes the bundle from a pod of Shoal's.
func newCrun(ctx context.Context, s *shoal, r *reports, n *network) (*crun, error) {
	const pod = "template"
	c := &crun{net: n, etc: filepath.Join(work, "etc")}
	if err := errors.Join(s.prepare(ctx, pod), s.start(ctx, pod)); err != nil {
		return c, err
	}
	if _, err := r.await(ctx, pod); err != nil {
		return c, err
	}
	found, err := filepath.Glob("/run/shoal/pods/*/containers/c/0/config.json")
	if err != nil || len(found) != 1 {
		return c, fmt.Errorf("%d bundles of Shoal's, want 1: %w", len(found), err)
	}
	text, err := os.ReadFile(found[0])
	if err != nil {
		return c, err
	}
	if err := json.Unmarshal(text, &c.bundle); err != nil {
		return c, err
	}
	if err := c.copyEtc("/run/shoal/pods/", "/var/lib/shoal/pods/"); err != nil {
		return c, err
	}
	return c, s.stop(ctx, pod)
}

// copyEtc keeps the files of the pod that the bundle mounts from below these directories.
func (c *crun) copyEtc(pods ...string) error {
	if err := os.MkdirAll(c.etc, 0o755); err != nil {
		return err
	}
	for i, m := range c.bundle.Mounts {
		if !slices.ContainsFunc(pods, func(dir string) bool { return strings.HasPrefix(m.Source, dir) }) {
			continue
		}
		info, err := os.Stat(m.Source)
		if err != nil {
			return err
		}
		to := filepath.Join(c.etc, filepath.Base(m.Source))
		if info.IsDir() {
			err = os.MkdirAll(to, 0o755)
		} else {
			var text []byte
			if text, err = os.ReadFile(m.Source); err == nil {
				err = os.WriteFile(to, text, 0o644)
			}
		}
		if err != nil {
			return err
		}
		c.bundle.Mounts[i].Source = to
	}
	return nil
}

func (*crun) dir(pod string) string    { return filepath.Join("/run/bench", pod) }
func (*crun) cgroup(pod string) string { return filepath.Join("/sys/fs/cgroup/bench", pod) }

func (c *crun) prepare(_ context.Context, pod string) error {
	if err := os.MkdirAll(c.dir(pod), 0o755); err != nil {
		return err
	}
	if c.counted {
		return nil
	}
	return c.setUp(pod)
}

func (c *crun) start(_ context.Context, pod string) error {
	if c.counted {
		if err := c.setUp(pod); err != nil {
			return err
		}
	}
	manager := "cgroupfs"
	if c.bare {
		manager = "disabled"
	}
	return c.background(pod, "crun", "--root=/run/bench-crun", "--cgroup-manager="+manager, "run", "--bundle="+c.dir(pod), pod)
}

func (c *crun) stop(ctx context.Context, pod string) error {
	if _, err := os.Stat(filepath.Join("/run/bench-crun", pod)); err == nil {
		if err := command(ctx, "crun", "--root=/run/bench-crun", "kill", pod, "KILL"); err != nil {
			return err
		}
	}
	_ = c.wait(pod) // its exit code is the container's; it has taken the container away
	var errs []error
	if !c.bare {
		root := filepath.Join(c.dir(pod), "root")
		if err := unix.Unmount(root, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EINVAL) {
			errs = append(errs, fmt.Errorf("unmount %s: %w", root, err))
		}
		errs = append(errs, c.net.remove(pod), removeCgroup(c.cgroup(pod)))
	}
	return errors.Join(append(errs, os.RemoveAll(c.dir(pod)), os.RemoveAll(upper(pod)))...)
}

// upper holds a pod's writable layer, on the file system where Shoal keeps them.
func upper(pod string) string { return filepath.Join("/var/lib/shoal/bench", pod) }

// setUp makes what a pod of Shoal's has besides its processes.
func (c *crun) setUp(pod string) error {
	spec := c.bundle
	spec.Linux = new(*c.bundle.Linux)
	spec.Process = new(*c.bundle.Process)
	spec.Process.Args = []string{"/first", "/out/" + pod}
	spec.Linux.CgroupsPath = ""
	spec.Root = &specs.Root{Path: work + "/rootfs"}
	spec.Linux.Namespaces = []specs.LinuxNamespace{
		{Type: specs.PIDNamespace}, {Type: specs.MountNamespace}, {Type: specs.IPCNamespace}, {Type: specs.UTSNamespace},
		{Type: specs.NetworkNamespace},
	}
	if !c.bare {
		path, err := c.net.add(pod)
		if err != nil {
			return fmt.Errorf("network: %w", err)
		}
		spec.Linux.Namespaces[4].Path = path
		if spec.Root.Path, err = c.mountRoot(pod); err != nil {
			return err
		}
		if err := os.MkdirAll(filepath.Join(c.cgroup(pod), "init"), 0o755); err != nil {
			return err
		}
		spec.Linux.CgroupsPath = filepath.Join("/bench", pod, "c")
	}
	text, err := json.Marshal(spec)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(c.dir(pod), "config.json"), text, 0o600)
}

func (c *crun) mountRoot(pod string) (string, error) {
	root := filepath.Join(c.dir(pod), "root")
	up, workDir := filepath.Join(upper(pod), "upper"), filepath.Join(upper(pod), "work")
	for _, dir := range []string{root, up, workDir} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return "", err
		}
	}
	options := fmt.Sprintf("lowerdir=%s/rootfs,upperdir=%s,workdir=%s", work, up, workDir)
	if err := unix.Mount("overlay", root, "overlay", 0, options); err != nil {
		return "", fmt.Errorf("mount overlay: %w", err)
	}
	return root, nil
}

// removeCgroup removes a cgroup without processes and those below it.
func removeCgroup(dir string) error {
	below, err := filepath.Glob(filepath.Join(dir, "*/"))
	if err != nil {
		return err
	}
	for _, d := range append(below, dir) {
		info, err := os.Stat(d)
		if err != nil || !info.IsDir() {
			continue
		}
		if err := unix.Rmdir(d); err != nil {
			return fmt.Errorf("remove %s: %w", d, err)
		}
	}
	return nil
}
