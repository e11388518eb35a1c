package enforce

import (
	"context"
	"testing"
)

// kill ends the daemon with SIGKILL; start is for afterwards.
const kill = `systemctl kill -s KILL --kill-whom=main shoald; while systemctl is-active -q shoald; do :; done; systemctl reset-failed shoald`

// configure adds to the host's settings for the time of a test; then puts them
// in force, by a reload or by killing the daemon.
func configure(t *testing.T, more, inForce string) {
	t.Helper()
	set := func(ctx context.Context, text, script string) {
		if err := host.WriteFile(ctx, configFile, []byte(text)); err != nil {
			t.Fatal(err)
		}
		if out, err := host.Shell(ctx, script); err != nil {
			t.Fatal(err, out)
		}
	}
	set(t.Context(), settings+more, inForce)
	t.Cleanup(func() { set(context.Background(), settings, inForce) })
}
