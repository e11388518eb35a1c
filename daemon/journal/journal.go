// Package journal writes the logs of Shoal's daemons. It is a leaf, for
// cmd/shoal-lease has to stay small.
package journal

import (
	"io"
	"log/slog"
	"os"
)

// Logger writes key=value lines, for a daemon's stderr. systemd hands that to the
// journal, as $JOURNAL_STREAM says (systemd.exec(5)), which stamps the lines: the
// time is left out there. Verbose is from level debug on, else from info on.
func Logger(w io.Writer, verbose bool) *slog.Logger {
	level := slog.LevelInfo
	if verbose {
		level = slog.LevelDebug
	}
	options := &slog.HandlerOptions{Level: level}
	if os.Getenv("JOURNAL_STREAM") != "" {
		options.ReplaceAttr = withoutTime
	}
	return slog.New(slog.NewTextHandler(w, options))
}

func withoutTime(groups []string, a slog.Attr) slog.Attr {
	if a.Key == slog.TimeKey && len(groups) == 0 {
		return slog.Attr{}
	}
	return a
}
