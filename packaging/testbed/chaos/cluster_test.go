package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/shoal-project/shoal/packaging/testbed/bed"
)

// cluster is light hosts that are one cluster, with what was asked of them.
type cluster struct {
	t     *testing.T
	bed   *bed.Bed
	hosts []string
	begin time.Time

	vague   bool // clocks were apart: of writes the last need not be in force
	spreads int  // how often files were brought up to date on all hosts

	mu       sync.Mutex
	did      map[Verb]int
	missed   map[Verb]int       // steps that came to nothing: the host was off, say
	calls    map[string]History // by object, since the last calm
	files    map[string]string  // the newest edit of each file that all hosts are to have
	troubles map[int]bed.Trouble
	number   int
}

// settings are those of all hosts. The machine's disk, which they share, may be as full as it is.
const settings = `join = %s
[lease]
bootstrap_expect = %d
[eviction.hard]
"nodefs.available" = "0%%"
"imagefs.available" = "0%%"
`

// newCluster boots hosts, with shoald built from this tree.
func newCluster(t *testing.T, hosts int) *cluster {
	needs(t)
	bin, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.WithoutCancel(t.Context()) // the journals are read when the test is over
	b, err := bed.Up(ctx, bed.Config{Hosts: hosts, Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Down(); err != nil {
			t.Error(err)
		}
	})
	c := &cluster{
		t: t, bed: b, hosts: b.HostNames(), begin: time.Now(), did: make(map[Verb]int), missed: make(map[Verb]int),
		calls: make(map[string]History), files: make(map[string]string), troubles: make(map[int]bed.Trouble),
	}
	join, _ := json.Marshal(c.hosts)
	c.each(func(h *bed.Host) error {
		return errors.Join(h.CopyTo(ctx, filepath.Join(bin, "shoald"), "/usr/bin/shoald"), h.CopyTo(ctx, filepath.Join(bin, "shoal"), "/usr/bin/shoal"),
			h.CopyTo(ctx, filepath.Join(bin, "shoal-lease"), "/usr/sbin/shoal-lease"),
			h.CopyTo(ctx, "../../systemd/shoal-lease.service", "/etc/systemd/system/shoal-lease.service"),
			h.CopyTo(ctx, "../../systemd/shoal-exclusive.slice", "/etc/systemd/system/shoal-exclusive.slice"),
			h.WriteFile(ctx, "/etc/systemd/system/shoald.service", []byte(unit)),
			h.WriteFile(ctx, "/etc/shoal/shoal.toml", fmt.Appendf(nil, settings, join, len(c.hosts))))
	})
	key := c.on("n1").shell("shoal keygen")
	c.each(func(h *bed.Host) error {
		_, err := h.Shell(ctx, `umask 077; printf '%s\n' "$1" > /etc/shoal/cluster.key; mkdir -p /var/log/journal /etc/shoal/manifests
systemctl restart systemd-journald; systemctl daemon-reload; systemctl enable --now --quiet shoald`, key)
		return err
	})
	t.Cleanup(func() {
		for _, name := range c.hosts {
			c.on(name).checkJournal()
		}
	})
	t.Cleanup(c.keepJournals)
	return c
}

// keepJournals puts what the daemons said where -artifacts leaves it, when the test has failed.
func (c *cluster) keepJournals() {
	if !c.t.Failed() {
		return
	}
	for _, name := range c.hosts {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(c.t.Context()), 30*time.Second)
		_, err := c.bed.Host(name).Shell(ctx, "journalctl -q -o short-precise -u shoald > /root/journal")
		if err == nil {
			err = c.bed.Host(name).CopyFrom(ctx, "/root/journal", filepath.Join(c.t.ArtifactDir(), name+".journal"))
		}
		if err != nil {
			c.t.Log(err)
		}
		cancel()
	}
}

func (c *cluster) on(name string) host { return host{c.bed.Host(name), c.t} }

// each does something on all hosts at once, which must succeed.
func (c *cluster) each(do func(*bed.Host) error) {
	c.t.Helper()
	errs := make([]error, len(c.hosts))
	var all sync.WaitGroup
	for i, name := range c.hosts {
		all.Go(func() { errs[i] = do(c.bed.Host(name)) })
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		c.t.Fatal(err)
	}
}

// sight is what all hosts show at about one time.
type sight struct {
	views     map[string]View
	snapshots map[string]Snapshot
	declared  Declared
}

const collectView = `shoal get ` + viewed + ` -A -o json; printf '\036'
cd /etc/shoal/manifests; for f in *.yaml; do test ! -e "$f" || sed -n 's/^.*annotations: {` + edited + `: "\([^"]*\)"}.*$/'"${f%.yaml}"' \1/p' "$f"; done`

// look asks every host. An error is one of a host that does not answer.
func (c *cluster) look() (sight, error) {
	s := sight{make(map[string]View), make(map[string]Snapshot), make(Declared)}
	errs := make([]error, len(c.hosts))
	var all sync.WaitGroup
	var mu sync.Mutex
	for i, name := range c.hosts {
		all.Go(func() {
			ctx, cancel := context.WithTimeout(c.t.Context(), 30*time.Second)
			defer cancel()
			text, err := c.bed.Host(name).Shell(ctx, collectView)
			if err != nil {
				errs[i] = err
				return
			}
			objects, files, _ := strings.Cut(text, "\x1e")
			view, err := ReadView([]byte(objects))
			if err != nil {
				errs[i] = fmt.Errorf("%s: %w", name, err)
				return
			}
			snapshot, err := Look(ctx, c.bed.Host(name))
			if errs[i] = err; err != nil {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			s.views[name], s.snapshots[name] = view, snapshot
			for line := range strings.Lines(files) {
				name, edit, _ := strings.Cut(strings.TrimSpace(line), " ")
				if !slices.Contains(s.declared[name], edit) {
					s.declared[name] = append(s.declared[name], edit)
				}
			}
		})
	}
	all.Wait()
	return s, errors.Join(errs...)
}

// amiss is all that is not as it should be where the hosts are left alone.
func (c *cluster) amiss(s sight) []string {
	found := Disagreements(s.views)
	for _, name := range c.hosts {
		v := s.views[name]
		for _, a := range v.Amiss(c.hosts, s.declared) {
			found = append(found, name+" sees: "+a)
		}
		for _, l := range Leaks(s.snapshots[name], v.Here(name)) {
			found = append(found, name+" shows: "+l)
		}
		for _, p := range v.Pods {
			if read := p.Labels["round"]; strings.HasPrefix(p.Name, "pinned-") && read != c.round() {
				found = append(found, fmt.Sprintf("%s sees: the files of %s are those of %s, want %s", name, p.Spec.NodeName, read, c.round()))
			}
		}
		for object, h := range c.calls {
			value := v.value(object)
			if c.vague && slices.ContainsFunc(h, func(c Call) bool { return c.Value == value }) {
				continue
			}
			if why := h.Lost(value); why != "" {
				found = append(found, fmt.Sprintf("%s sees: %s %s", name, object, why))
			}
		}
	}
	return found
}

// value is what an object of the API's load says.
func (v View) value(object string) string {
	for _, cm := range v.Configs {
		if cm.Name == object {
			return cm.Data["value"]
		}
	}
	for _, d := range v.Deployments {
		switch {
		case d.Name != object:
		case object == scaledByAPI:
			return fmt.Sprint(*d.Spec.Replicas)
		default:
			return templateEdit(d.Spec.Template.Spec)
		}
	}
	return ""
}

// settle waits until nothing is amiss, and returns what was seen then.
func (c *cluster) settle(limit time.Duration) (sight, time.Duration) {
	c.t.Helper()
	begin := time.Now()
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		s, err := c.look()
		amiss := []string{fmt.Sprint(err)}
		if err == nil {
			amiss = c.amiss(s)
		}
		if len(amiss) == 0 {
			return s, time.Since(begin)
		}
		if time.Since(begin) > limit {
			c.t.Errorf("still after %v:\n%s", limit, strings.Join(amiss, "\n"))
			c.holdOn()
			c.t.FailNow()
		}
		select {
		case <-tick.C:
		case <-c.t.Context().Done():
			c.t.Fatal(context.Cause(c.t.Context()))
		}
	}
}
