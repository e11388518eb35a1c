package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/shoal-project/shoal/daemon/container"
	"github.com/shoal-project/shoal/daemon/image"
	"github.com/shoal-project/shoal/daemon/userns"
	"github.com/shoal-project/shoal/storage/volume"
)

// usersFile is where a pod's directory below Lib says which of the host's IDs
// are the pod's. Like the volumes that have those IDs it outlives the machine's
// restart.
const usersFile = "users.json"

// ranges knows which pod has which of the host's IDs. The files say so too: a
// range is a pod's from the moment its file is there until the pod's directory
// is gone.
type ranges struct {
	lib  string
	pool userns.Pool

	mu  sync.Mutex
	of  map[types.UID]userns.Range
	err error // why it is not known what is taken
}

// load reads what earlier daemons gave to pods.
func (r *ranges) load() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.of, r.err = make(map[types.UID]userns.Range), nil
	for _, uid := range subdirectories(r.lib) {
		got, err := readRange(filepath.Join(r.lib, uid))
		switch {
		case err == nil:
			r.of[types.UID(uid)] = got
		case !errors.Is(err, fs.ErrNotExist):
			r.err = errors.Join(r.err, fmt.Errorf("which IDs are taken is not known: %w", err))
		}
	}
}

func readRange(dir string) (r userns.Range, err error) {
	data, err := os.ReadFile(filepath.Join(dir, usersFile))
	if err != nil {
		return r, err
	}
	err = json.Unmarshal(data, &r)
	if err == nil && (r.First == 0 || r.Length == 0) {
		err = errors.New("it names no IDs")
	}
	if err != nil {
		return r, fmt.Errorf("%s: %w", filepath.Join(dir, usersFile), err)
	}
	return r, nil
}

// get is the range that a pod has; the zero value when it has none.
func (r *ranges) get(uid types.UID) userns.Range {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.of[uid]
}

// take gives a pod the range that it has, or else one that no other has.
func (r *ranges) take(uid types.UID) (userns.Range, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if got, ok := r.of[uid]; ok {
		return got, nil
	}
	if r.err != nil {
		return userns.Range{}, r.err
	}
	used := make([]userns.Range, 0, len(r.of))
	for _, u := range r.of {
		used = append(used, u)
	}
	next, err := r.pool.Next(used)
	if err != nil {
		return userns.Range{}, err
	}
	if err := writeRange(filepath.Join(r.lib, string(uid)), next); err != nil {
		return userns.Range{}, err
	}
	r.of[uid] = next
	return next, nil
}

// writeRange returns when the file is on the disk.
func writeRange(dir string, r userns.Range) error {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	fresh := filepath.Join(dir, usersFile+".new")
	f, err := os.OpenFile(fresh, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(fresh, filepath.Join(dir, usersFile)); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// free is for a pod of which nothing is left.
func (r *ranges) free(uid types.UID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.of, uid)
}

func ownUsers(p *v1.Pod) bool { return p.Spec.HostUsers != nil && !*p.Spec.HostUsers }

// takeUsers gives the pod its range of IDs, if it wants one; oci is the OCI
// runtime of its RuntimeClass. The messages are the kubelet's
// (GetOrCreateUserNamespaceMappings).
func (j job) takeUsers(ctx context.Context, oci string) (container.Users, error) {
	if !ownUsers(j.pod) {
		return container.Users{}, nil
	}
	a := j.w.agent
	if a.cfg.UserNamespaces == nil {
		return container.Users{}, errors.New("can't set `spec.hostUsers: false`, runtime does not support user namespaces")
	}
	if err := a.cfg.UserNamespaces(ctx, oci); err != nil {
		return container.Users{}, fmt.Errorf("can't set `spec.hostUsers: false`, runtime does not support user namespaces: %w", err)
	}
	got, err := a.users.take(j.w.uid)
	if err != nil {
		return container.Users{}, fmt.Errorf("create user namespace: %w", err)
	}
	if sc := j.pod.Spec.SecurityContext; sc != nil && sc.FSGroup != nil && *sc.FSGroup >= int64(got.Length) {
		return container.Users{}, fmt.Errorf("spec.securityContext.fsGroup %d is not among the %d groups of a pod with hostUsers: false", *sc.FSGroup, got.Length)
	}
	// The pods' own directories are closed, each to all but its own users.
	for _, dir := range []string{a.cfg.Run, a.cfg.Lib} {
		if err := os.Chmod(dir, 0o711); err != nil {
			return container.Users{}, err
		}
		if err := passable(filepath.Dir(dir)); err != nil {
			return container.Users{}, err
		}
	}
	return container.Users{First: got.First, Length: got.Length}, nil
}

// passable says which directory on the way down to dir, or dir itself, a pod's
// own users may not pass through. What is wrong there is not ours to change.
func passable(dir string) error {
	for ; ; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err != nil {
			return err
		}
		if mode := info.Mode().Perm(); mode&0o001 == 0 {
			return fmt.Errorf("%s has mode %#o, and the users of a pod with hostUsers: false must pass through it: chmod o+x %s", dir, mode, dir)
		}
		if dir == filepath.Dir(dir) {
			return nil
		}
	}
}

// letInVolumes opens the way to a pod's volumes to its own users.
func (j job) letInVolumes(u container.Users) error {
	return u.LetIn(present(j.w.lib(), filepath.Join(j.w.lib(), "volumes"))...)
}

// letIn opens the way to what one run of a container needs to its pod's users.
func (j job) letIn(name, root string) error {
	lib, u := j.w.lib(), j.sandbox.Users
	termination := filepath.Join(lib, "termination")
	subpaths := filepath.Join(lib, "subpaths")
	return u.LetIn(present(
		containersDir(lib), filepath.Dir(root), root,
		termination, filepath.Join(termination, name), subpaths, filepath.Join(subpaths, name),
	)...)
}

func present(dirs ...string) []string {
	return slices.DeleteFunc(dirs, func(dir string) bool {
		_, err := os.Lstat(dir)
		return errors.Is(err, fs.ErrNotExist)
	})
}

// userNS is the user namespace that the pod's roots are mounted for; nil when
// it has the host's. Close its NS.
func (j job) userNS() (*image.UserNS, error) {
	if j.sandbox.UserNS == "" {
		return nil, nil
	}
	ns, err := os.Open(j.sandbox.UserNS)
	if err != nil {
		return nil, err
	}
	return &image.UserNS{NS: ns, First: j.sandbox.Users.First}, nil
}

// give makes a file the pod's root's.
func (j job) give(u container.Users, file string) error {
	if u == (container.Users{}) {
		return nil
	}
	return os.Lchown(file, int(u.First), int(u.First))
}

// volumeNode is what the pod's volumes depend on.
func (j job) volumeNode() volume.NodeInfo {
	node := j.w.agent.cfg.Volumes
	node.FirstID = j.w.agent.users.get(j.w.uid).First
	return node
}
