package container

import (
	"context"
	"fmt"
	"os"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

const resourcesFile = "resources.json"

// Update puts new limits of a running container's own cgroup in force. It does
// nothing where cgroups are off.
func (r *Runtime) Update(ctx context.Context, dir string, resources *specs.LinuxResources) error {
	if r.CgroupManager == "disabled" {
		return nil
	}
	state, err := r.Read(dir)
	if err != nil {
		return err
	}
	if state.Phase != Running {
		return fmt.Errorf("update container: it is %s", state.Phase)
	}
	if err := writeJSON(dir, resourcesFile, resources); err != nil {
		return fmt.Errorf("update container: %w", err)
	}
	file := dir + string(os.PathSeparator) + resourcesFile
	if err := r.run(ctx, state.oci, "update", "--resources="+file, state.ID); err != nil {
		return fmt.Errorf("update container: %w", err)
	}
	return nil
}
