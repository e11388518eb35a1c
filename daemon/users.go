package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"time"

	"github.com/shoal-project/shoal/daemon/container"
	"github.com/shoal-project/shoal/daemon/userns"
)

// subordinate is whose lines of subuid(5) and subgid(5) say which IDs pods get.
const subordinate = "shoal"

// readUsers finds the IDs for pods with user namespaces of their own. What is
// wrong with them is an error for those pods alone.
func (h *host) readUsers() {
	var files [2][]byte
	for i, name := range []string{"etc/subuid", "etc/subgid"} {
		b, err := os.ReadFile(h.d.path(name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			h.usersErr = err
			break
		}
		files[i] = b
	}
	if h.usersErr == nil {
		h.users, h.usersErr = userns.NewPool(files[0], files[1], subordinate, uint32(h.d.Config.UserNS.IDsPerPod))
	}
	if h.usersErr == nil && int64(h.users.Pods()) < h.d.Config.Runtime.MaxPods {
		h.d.Log.Warn("not every pod can have a user namespace of its own", "ranges", h.users.Pods(), "max_pods", h.d.Config.Runtime.MaxPods)
	}
	if h.usersErr != nil {
		h.d.Log.Warn("no pod can have a user namespace of its own", "err", h.usersErr)
	}
}

// userNamespaces says why containers of pods with hostUsers: false can't be run
// by an OCI runtime, "" being the host's own; nil when they can.
func (h *host) userNamespaces(ctx context.Context, oci string) error {
	if h.usersErr != nil {
		return h.usersErr
	}
	return h.runtimes.userNamespaces(ctx, cmp.Or(oci, h.runtime.OCI))
}

// runtimes remembers what OCI runtimes said of themselves, which takes a
// process or two, until they are replaced.
type runtimes struct {
	mu   sync.Mutex
	said map[string]said
}

type said struct {
	changed time.Time
	err     error
}

func (r *runtimes) userNamespaces(ctx context.Context, path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("the OCI runtime: %w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if s, ok := r.said[path]; ok && s.changed.Equal(info.ModTime()) {
		return s.err
	}
	err = container.UserNamespaces(ctx, path)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if r.said == nil {
		r.said = make(map[string]said)
	}
	r.said[path] = said{info.ModTime(), err}
	return err
}
