package gate

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Session is the one that this boot of the host has: from the file, which must
// be in /run, or a new one. A file that is cut short, by a full disk or a crash,
// is as good as none: the new session waits until the old one's lease has run out.
func Session(file string) (string, error) {
	data, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("read the session: %w", err)
	}
	if s, whole := strings.CutSuffix(string(data), "\n"); whole && s != "" {
		return s, nil
	}
	s := rand.Text()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return "", fmt.Errorf("write the session: %w", err)
	}
	part := file + ".part"
	if err := os.WriteFile(part, []byte(s+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("write the session: %w", err)
	}
	return s, os.Rename(part, file)
}
