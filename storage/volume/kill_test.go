package volume

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
)

// victimEnv names the pod's directory to the process that is killed.
const victimEnv = "SHOAL_VOLUME_TEST_VICTIM"

func victimPod() *v1.Pod {
	group := int64(2000)
	return newPod(&group, emptyDir("disk", "", ""), emptyDir("mem", "Memory", "1Mi"), configMapVolume("cfg", "app"), secretVolume("sec", "tls"))
}

func victimObjects(generation int) objects {
	objs := someObjects
	objs.configMaps = []v1.ConfigMap{configMap("app", map[string]string{"a": strconv.Itoa(generation), "b" + strconv.Itoa(generation%3): "x"})}
	return objs
}

// victim sets up, changes, binds and tears down until it is killed.
func victim(dir string) error {
	fmt.Println("ready")
	pod := victimPod()
	for i := 0; ; i++ {
		ready, err := Setup(context.Background(), pod, filepath.Join(dir, "volumes"), victimObjects(i), testNode)
		if err != nil {
			return err
		}
		mounts := []Mount{{Volume: "cfg", Source: ready["cfg"].Path, SubPath: "a"}, {Volume: "mem", Source: ready["mem"].Path, SubPath: "x/y"}}
		if _, err := BindSubPaths(filepath.Join(dir, "subpaths"), "c", mounts); err != nil {
			return err
		}
		if i%4 == 3 {
			if err := Teardown(context.Background(), dir); err != nil {
				return err
			}
		}
	}
}

func TestKilledAnywhereItGoesOn(t *testing.T) {
	needMounts(t)
	if dir := os.Getenv(victimEnv); dir != "" {
		t.Fatal(victim(dir))
	}
	seed := uint64(time.Now().UnixNano())
	t.Log("seed", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	base := t.TempDir()
	for i := range 25 {
		dir := filepath.Join(base, "pod")
		killVictim(t, dir, time.Duration(random.IntN(20000))*time.Microsecond)
		volumes := filepath.Join(dir, "volumes")
		ready := mustSetup(t, victimPod(), volumes, victimObjects(-1))
		for name, want := range map[string]string{"disk": "dgrwxrwxrwx 2000 disk", "mem": "dgtrwxrwxrwx 2000 tmpfs",
			"cfg/a": "-rw-r--r-- 2000 disk", "sec/key": "-rw-r--r-- 2000 tmpfs"} {
			if got := describe(t, filepath.Join(volumes, name)); got != want {
				t.Errorf("round %d: %s: got %s, want %s", i, name, got, want)
			}
		}
		entries, err := os.ReadDir(filepath.Join(volumes, "cfg"))
		if err != nil || len(entries) != 4 { // data directory, ..data, a, b
			t.Errorf("round %d: cfg has %v, %v", i, entries, err)
		}
		if i%2 == 0 {
			continue // the next victim starts from here
		}
		mounts := []Mount{{Volume: "cfg", Source: ready["cfg"].Path, SubPath: "a"}}
		bound, err := BindSubPaths(filepath.Join(dir, "subpaths"), "c", mounts)
		if err != nil {
			t.Fatal(err)
		}
		if b, _ := os.ReadFile(bound[0].Source); string(b) != "-1" {
			t.Errorf("round %d: subPath shows %q", i, b)
		}
		if err := Teardown(t.Context(), dir); err != nil {
			t.Fatal(err)
		}
		if left, _ := mountsBelow(dir); len(left) > 0 {
			t.Errorf("round %d: mounts left: %v", i, left)
		}
	}
	if err := Teardown(t.Context(), filepath.Join(base, "pod")); err != nil {
		t.Error(err)
	}
}

// killVictim runs a victim for about d, in this process's mount namespace.
func killVictim(t *testing.T, dir string, d time.Duration) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestKilledAnywhereItGoesOn$")
	cmd.Env = append(os.Environ(), victimEnv+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	if !lines.Scan() || lines.Text() != "ready" {
		t.Errorf("the victim said %q", lines.Text())
	}
	<-time.After(d)
	if err := cmd.Process.Kill(); err != nil {
		t.Error(err)
	}
	for lines.Scan() {
		t.Errorf("the victim said %q", lines.Text())
	}
	cmd.Wait()
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || !status.Signaled() {
		t.Errorf("the victim ended by itself: %v", cmd.ProcessState)
	}
}
