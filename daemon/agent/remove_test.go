package agent

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"testing"

	v1 "k8s.io/api/core/v1"
)

// TestAPodIsRemovedAfterItsEndIsOnDisk, and also when the disk takes nothing.
func TestAPodIsRemovedAfterItsEndIsOnDisk(t *testing.T) {
	for _, full := range []error{nil, errors.New("no space left on device")} {
		a := New(t.Context(), Config{Run: t.TempDir(), Lib: t.TempDir(), Log: t.TempDir(), Logger: slog.New(slog.DiscardHandler)})
		p := &v1.Pod{}
		p.Namespace, p.Name, p.UID = "default", "web", "u1"
		logs := a.LogDir(p)
		if err := os.MkdirAll(logs, 0o755); err != nil {
			t.Fatal(err)
		}
		there := errors.New("nobody asked")
		a.cfg.Flush = func() error {
			_, there = os.Stat(logs)
			return full
		}
		if err := a.remove(t.Context(), p); err != nil || there != nil {
			t.Errorf("remove: %v; when it was to be on disk: %v", err, there)
		}
		if _, err := os.Stat(logs); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the logs are still there: %v", err)
		}
	}
}
