package cure

import (
	"fmt"
	"regexp"

	v1 "k8s.io/api/core/v1"
)

// volumes are volumes and mounts that can't be made.
var volumes = []rule{
	says(`volume "([^"]+)" : hostPath type check failed: (\S+) is not a (directory|[^:]+)(: it does not exist)?`, func(a about, m []string) string {
		_, path := a.volume(m[1])
		or := ""
		switch {
		case m[4] == "":
		case m[3] == "directory":
			or = fmt.Sprintf("make it on this host (mkdir -p %s), set type: DirectoryOrCreate, or ", m[2])
		case m[3] == "file":
			or = "make it on this host, set type: FileOrCreate, or "
		}
		return at(path+".hostPath", "%scorrect path or type", or)
	}),
	says(`volume "([^"]+)": persistentVolumeClaim is not implemented yet`, func(a about, m []string) string {
		_, path := a.volume(m[1])
		return at(path, "use hostPath with type: DirectoryOrCreate to keep data on this host, or emptyDir for data that may go")
	}),
	says(`volume "([^"]+)": (\S+) is not implemented yet`, func(a about, m []string) string {
		_, path := a.volume(m[1])
		return at(path+"."+m[2], "mount it on the host, and use hostPath")
	}),
	says("mount `[^`]*` to `([^`]*)`: Not a directory", func(a about, m []string) string {
		_, field := a.mount("/" + regexp.MustCompile(`^/`).ReplaceAllString(m[1], ""))
		return at(field, "/%s is a file in the image and a directory in the volume: set subPath to mount one file of the volume", m[1])
	}),
	says(`failed to (?:create|prepare) subPath(?: directory)? for volumeMount "([^"]+)"`, func(a about, m []string) string {
		for i := range a.mounts() {
			if a.spec.VolumeMounts[i].Name == m[1] && a.spec.VolumeMounts[i].SubPath != "" {
				return at(a.field(fmt.Sprintf("volumeMounts[%d].subPath", i)), "the volume has no such path that may be mounted: correct it")
			}
		}
		return ""
	}),
	says(`SetUp failed for volume .*no space left on device`, func(a about, _ []string) string {
		for path, c := range containers(a.pod) {
			if limit, ok := c.Resources.Limits[v1.ResourceMemory]; ok && limit.Value() < leastMemory {
				return at(path+".resources.limits.memory", "%s is %g bytes, and volumes in memory are bounded by it: write Mi or Gi behind the number", limit.String(), limit.AsApproximateFloat64())
			}
		}
		return "free space below /var/lib/shoal"
	}),
	says(`Usage of EmptyDir volume "([^"]+)" exceeds the limit`, func(a about, m []string) string {
		_, path := a.volume(m[1])
		return at(path+".emptyDir.sizeLimit", "raise it, or write less")
	}),
}

// leastMemory is less than any program needs: a limit below it is a mistake in
// its unit.
const leastMemory = 1 << 20

func (a about) mounts() []v1.VolumeMount {
	if a.spec == nil {
		return nil
	}
	return a.spec.VolumeMounts
}
