package chaos

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

var clocks = flag.Bool("shoald.clock", false, "build shoald so that its clock can be set apart from the machine's: everything is compiled anew, once")

// clockFile has the seconds that a host's shoald is ahead of the machine's clock. Like a real clock that was set, it is right
// again after a boot.
const clockFile = "/run/chaos-clock"

// ownClock is a part of shoald that follows clockFile.
const ownClock = `package main

import (
	"os"
	"strconv"
	"strings"
	"time"
)

func init() {
	follow := func() {
		text, _ := os.ReadFile("` + clockFile + `")
		ahead, _ := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
		time.ChaosAhead.Store(ahead)
	}
	follow()
	go func() {
		for range time.Tick(100 * time.Millisecond) {
			follow()
		}
	}()
}
`

// clockOverlay writes, for go build -overlay, a time.Now that is ahead of the machine's clock. Monotonic readings and timers
// stay as they are, as they do when somebody sets a clock. Light hosts share the machine's, which no test may set.
func clockOverlay(dir string) (path string, err error) {
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return "", err
	}
	module, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return "", err
	}
	source := filepath.Join(strings.TrimSpace(string(root)), "src/time/time.go")
	text, err := os.ReadFile(source)
	if err != nil {
		return "", err
	}
	const now, imports = "func Now() Time {\n\tsec, nsec, mono := runtimeNow()\n", "import (\n"
	if strings.Count(string(text), now) != 1 || strings.Count(string(text), imports) != 1 {
		return "", fmt.Errorf("%s is not as it was: its clock can't be set apart", source)
	}
	changed := strings.Replace(string(text), now, "var ChaosAhead atomic.Int64\n\n"+now+"\tsec += ChaosAhead.Load()\n", 1)
	changed = strings.Replace(changed, imports, imports+"\t\"sync/atomic\"\n", 1)
	replace := make(map[string]string)
	for file, text := range map[string]string{source: changed, filepath.Join(strings.TrimSpace(string(module)), "cmd/shoald/chaosclock.go"): ownClock} {
		at := filepath.Join(dir, filepath.Base(file))
		if err := os.WriteFile(at, []byte(text), 0o644); err != nil {
			return "", err
		}
		replace[file] = at
	}
	list, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	path = filepath.Join(dir, "overlay.json")
	return path, os.WriteFile(path, list, 0o644)
}
