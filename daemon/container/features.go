package container

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// UserNamespaces says why the OCI runtime at path can't run containers of pods
// with hostUsers: false; nil when it can: it has to map the IDs of mounts. What a
// runtime can do it tells itself (the runtime specification's features
// structure); crun before 1.9 has no such command, and can from 1.8 on.
func UserNamespaces(ctx context.Context, path string) error {
	out, err := exec.CommandContext(ctx, path, "features").Output()
	if err == nil {
		var features struct {
			Linux struct {
				MountExtensions struct {
					IDMap struct {
						Enabled bool `json:"enabled"`
					} `json:"idmap"`
				} `json:"mountExtensions"`
			} `json:"linux"`
		}
		if err := json.Unmarshal(out, &features); err != nil {
			return fmt.Errorf("%s features: %w", path, err)
		}
		if features.Linux.MountExtensions.IDMap.Enabled {
			return nil
		}
	}
	if filepath.Base(path) == "crun" {
		out, err := exec.CommandContext(ctx, path, "--version").Output()
		if err != nil {
			return fmt.Errorf("%s --version: %w", path, err)
		}
		if atLeast(string(out), 1, 8) {
			return nil
		}
	}
	return errors.New(filepath.Base(path) + " does not map the IDs of mounts: runc from 1.2 and crun from 1.8 on do")
}

// atLeast reads "crun version 1.8.1" and what follows.
func atLeast(said string, major, minor int) bool {
	line, _, _ := strings.Cut(said, "\n")
	f := strings.Fields(line)
	if len(f) < 3 {
		return false
	}
	v := strings.SplitN(f[2], ".", 3)
	got, err := strconv.Atoi(v[0])
	if err != nil || got != major || len(v) == 1 {
		return err == nil && got > major
	}
	got, err = strconv.Atoi(v[1])
	return err == nil && got >= minor
}
