package daemon

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/shoal-project/shoal/daemon/cluster"
	"github.com/shoal-project/shoal/daemon/config"
	"github.com/shoal-project/shoal/daemon/peer"
	"github.com/shoal-project/shoal/daemon/record"
	"github.com/shoal-project/shoal/daemon/steward"
	"github.com/shoal-project/shoal/daemon/view"
	"github.com/shoal-project/shoal/manifests"
)

// world is daemons without hosts: records, views and all that is decided are
// real, what runs is a list, and news travels when the test says so.
type world struct {
	t     *testing.T
	rng   *rand.Rand
	now   time.Time
	nodes []*simulated
}

type simulated struct {
	*Daemon
	w       *world
	name    string
	up      bool
	sees    map[string]bool // of the others, whom it takes to be alive
	disk    map[string]*record.Record
	pins    *cluster.Pins
	running map[types.UID]*v1.Pod // what outlives the daemon
	lost    bool                  // its disk is new
}

func newWorld(t *testing.T, seed uint64, n int) *world {
	w := &world{t: t, rng: rand.New(rand.NewPCG(seed, 0)), now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	for i := range n {
		pins, err := cluster.OpenPins("", func(string) {})
		if err != nil {
			t.Fatal(err)
		}
		s := &simulated{w: w, name: fmt.Sprint("n", i+1), pins: pins, sees: make(map[string]bool), running: make(map[types.UID]*v1.Pod)}
		w.nodes = append(w.nodes, s)
	}
	for _, s := range w.nodes {
		for _, o := range w.nodes {
			s.sees[o.name] = true
		}
		s.start()
	}
	return w
}

// start begins a daemon with what is on its disk, and with what runs.
func (s *simulated) start() {
	s.up = true
	log := slog.New(slog.DiscardHandler)
	now := func() time.Time { return s.w.now }
	d := newDaemon(Options{Root: s.w.t.TempDir(), Config: &config.Config{Node: s.name}, Log: log, Now: now})
	d.cluster = "c"
	d.goBare()
	d.fleet.id.Store(&cluster.ID{ID: "c"})
	s.Daemon = d
	seed := sha256.Sum256([]byte(s.name))
	records := make(map[string]*record.Record)
	var keys []manifests.Key
	for node, r := range s.disk {
		records[node] = r.Clone()
		for name, e := range r.Entries {
			d.clock.Observe(e.Stamp)
			if key, err := manifests.ParseKey(name.Key); err == nil {
				keys = append(keys, key)
			}
		}
	}
	d.records = peer.NewSet(peer.SetConfig{
		Node: s.name, Cluster: "c", Key: ed25519.NewKeyFromSeed(seed[:]), Pins: s.pins, Records: records, Alone: !s.lost, Now: now, Changed: d.arrived.add,
	})
	d.arrived.take() // its own
	values, err := d.adoptFound(slices.Collect(maps.Values(s.running)))
	if err != nil {
		s.w.t.Fatal(err)
	}
	d.say(values)
	d.fold(keys)
	s.look()
	d.followMembers()
	n := &v1.Node{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Node"}}
	n.Name = s.name
	n.Labels = map[string]string{v1.LabelHostname: s.name}
	n.Status.Allocatable = v1.ResourceList{v1.ResourceCPU: resource.MustParse("1"), v1.ResourceMemory: resource.MustParse("1Gi"), v1.ResourcePods: resource.MustParse("20")}
	value, err := json.Marshal(n)
	if err != nil {
		s.w.t.Fatal(err)
	}
	d.publish(map[record.Name]json.RawMessage{{Section: record.Status, Key: d.nodeKey().String()}: value})
	d.runPods()
	d.reconcile()
}

// crash ends a daemon. Its host's pods run on, unless the power is cut.
func (s *simulated) crash(power bool) {
	s.up = false
	s.disk = make(map[string]*record.Record)
	s.records.Read(func(all map[string]*record.Record) {
		for node, r := range all {
			s.disk[node] = r.Clone()
		}
	})
	if power {
		clear(s.running)
	}
}

// look has a daemon see its members as they are to it.
func (s *simulated) look() {
	var list []steward.Member
	for _, o := range s.w.nodes {
		list = append(list, steward.Member{Name: o.name, Alive: o == s || s.sees[o.name], Ready: o.Daemon == nil || o.records.Published()})
	}
	s.fleet.list = list
}

// hear brings a daemon all that another knows.
func (s *simulated) hear(o *simulated) {
	for _, want := range s.records.Wants(o.records.Heads(), func(string) bool { return false }) {
		a, ok, err := o.records.Answer(want)
		if err != nil {
			s.w.t.Fatal(err)
		}
		if !ok {
			continue
		}
		if _, err := s.records.Merge(a); err != nil {
			s.w.t.Fatal(s.name, " from ", o.name, ": ", err)
		}
	}
	s.takeIn()
	s.reconcile()
}

// takeBack has a daemon with a new disk hear everybody and begin to publish.
func (s *simulated) takeBack() {
	for _, o := range s.w.alive() {
		if o != s {
			s.hear(o)
		}
	}
	s.lost = false
	s.records.PublishFirst()
	s.takeIn()
	values, err := s.adoptFound(slices.Collect(maps.Values(s.running)))
	if err != nil {
		s.w.t.Fatal(err)
	}
	s.publish(values)
	s.runPods()
	s.look()
	s.reconcile()
}

// run has a host do what its daemon wants of it: one thing for each pod.
func (s *simulated) run() {
	given := s.leftovers.all()
	for _, uid := range slices.Sorted(maps.Keys(given)) {
		p := given[uid]
		_, runs := s.running[uid]
		switch {
		case p.DeletionTimestamp != nil:
			delete(s.running, uid)
			s.takeStatus(p, v1.PodStatus{}, true)
		case runs:
			s.running[uid] = p
			s.takeStatus(p, s.status(), false)
		default:
			if r := s.refuse(p); r != nil {
				s.takeStatus(p, v1.PodStatus{Phase: v1.PodFailed, Reason: r.Reason, Message: r.Message}, false)
				continue
			}
			s.running[uid] = p
			s.takeStatus(p, s.status(), false)
		}
		s.reconcile()
	}
}

func (s *simulated) status() v1.PodStatus {
	return readySince(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
}

// declare has a node's file declare an object; "" takes it out.
func (s *simulated) declare(key manifests.Key, text string) {
	if !s.up {
		s.start()
	}
	name := claimName(key)
	if text == "" {
		s.publish(map[record.Name]json.RawMessage{name: nil})
		s.reconcile()
		return
	}
	declared, err := json.Marshal(json.RawMessage(text))
	if err != nil {
		s.w.t.Fatal(err)
	}
	var old record.Claim
	if v := s.own(name); v != nil {
		if err := json.Unmarshal(v, &old); err != nil {
			s.w.t.Fatal(err)
		}
	}
	now := s.clock.Now()
	c := record.Claim{Declared: declared, File: "/etc/shoal/manifests/x.yaml", Edited: now, Born: old.Born, Generation: old.Generation + 1}
	if c.Born == 0 {
		c.Born = now
	}
	value, err := json.Marshal(c)
	if err != nil {
		s.w.t.Fatal(err)
	}
	s.publish(map[record.Name]json.RawMessage{name: value})
	s.reconcile()
}

// settle has everybody see and hear everybody until nothing changes any more.
func (w *world) settle() {
	for _, s := range w.nodes {
		for _, o := range w.nodes {
			s.sees[o.name] = o.up
		}
	}
	quiet := 0
	for round := 0; quiet < 4; round++ {
		if round > 300 {
			w.t.Fatalf("no rest after %d rounds:\n%s", round, w)
		}
		before := w.heads()
		w.round()
		if quiet++; w.heads() != before {
			quiet = 0
		} else {
			w.now = w.now.Add(refusedFor)
		}
	}
}

// round has everybody look, run what is to run, and hear everybody that it sees.
func (w *world) round() {
	w.now = w.now.Add(5 * time.Second)
	for _, s := range w.alive() {
		s.look()
		s.unsure()
		s.reconcile()
		s.run()
		for _, o := range w.alive() {
			if o != s && s.sees[o.name] {
				s.hear(o)
			}
		}
	}
}

// unsure is what a look at the files brings, every 30 s.
func (s *simulated) unsure() { s.decidePods(append(s.undeclared(nil), s.unmade()...)) }

func (w *world) heads() string {
	var b strings.Builder
	for _, s := range w.alive() {
		fmt.Fprintln(&b, s.name, s.records.Digest())
	}
	return b.String()
}

func (w *world) alive() (list []*simulated) {
	for _, s := range w.nodes {
		if s.up {
			list = append(list, s)
		}
	}
	return list
}

func (w *world) node(name string) *simulated {
	return w.nodes[slices.IndexFunc(w.nodes, func(s *simulated) bool { return s.name == name })]
}

// step is something that happens to a fleet.
func (w *world) step() {
	w.now = w.now.Add(time.Duration(w.rng.IntN(3000)) * time.Millisecond)
	s := w.nodes[w.rng.IntN(len(w.nodes))]
	o := w.nodes[w.rng.IntN(len(w.nodes))]
	if !s.up {
		if w.rng.IntN(4) == 0 {
			s.start()
		}
		return
	}
	switch n := w.rng.IntN(20); {
	case n < 10:
		if o.up && o != s {
			s.hear(o)
		}
	case n < 14:
		s.run()
	case n < 17:
		s.sees[o.name] = w.rng.IntN(2) == 0
		s.look()
		s.reconcile()
	case n < 18:
		s.unsure()
		s.reconcile()
	case n == 18:
		s.crash(w.rng.IntN(3) == 0)
	default:
		s.reconcile()
	}
}

// pods is what runs, as the hosts know it.
func (w *world) String() string {
	var lines []string
	for _, s := range w.nodes {
		for _, p := range s.running {
			lines = append(lines, fmt.Sprintf("%s %s %s/%s", s.name, p.UID, p.Namespace, p.Name))
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// check says what is wrong with a fleet that has settled: what should run, by a
// pod's label "of", on how many nodes.
func (w *world) check(want map[string]int) {
	w.t.Helper()
	at := make(map[types.UID]string)
	got := make(map[string]int)
	up := make(map[string]bool)
	for _, s := range w.nodes {
		up[s.name] = s.up
		on := make(map[string]int)
		for uid, p := range s.running {
			if other, twice := at[uid]; twice {
				w.t.Errorf("%s runs on %s and %s", p.Name, other, s.name)
			}
			at[uid] = s.name
			got[p.Labels["of"]]++
			on[p.Labels["of"]]++
		}
		if on["agents"] > 1 {
			w.t.Errorf("%d pods of the daemon set on %s", on["agents"], s.name)
		}
	}
	for of := range want {
		if got[of] != want[of] {
			w.t.Errorf("%d pods of %s run, want %d", got[of], of, want[of])
		}
	}
	for of := range got {
		if want[of] == 0 {
			w.t.Errorf("%d pods of %s run, want none", got[of], of)
		}
	}
	first := ""
	for _, s := range w.alive() {
		var lines []string
		list, _ := s.view.List(podKind, "")
		for _, o := range list {
			p := o.(*v1.Pod)
			lines = append(lines, fmt.Sprint(p.Name, " ", p.UID, " ", p.Spec.NodeName, " ", p.Status.Phase, " ", p.DeletionTimestamp != nil))
			if p.DeletionTimestamp == nil && up[p.Spec.NodeName] && at[p.UID] != p.Spec.NodeName {
				w.t.Errorf("%s sees %s on %q, and it runs on %q", s.name, p.Name, p.Spec.NodeName, at[p.UID])
			}
		}
		all := strings.Join(lines, "\n")
		if first == "" {
			first = all
		}
		if all != first {
			w.t.Errorf("%s sees\n%s\nand another\n%s", s.name, all, first)
		}
		for _, key := range s.contested() {
			name := record.Name{Section: record.Decisions, Key: key.String()}
			said := s.said(name)
			maps.DeleteFunc(said, func(node string, _ view.Said) bool { return !up[node] })
			if len(said) > 1 {
				w.t.Errorf("%d nodes decide on %s", len(said), key)
			}
		}
	}
}

var (
	keyWeb    = manifests.Key{Group: "apps", Kind: "Deployment", Namespace: "x", Name: "web"}
	keyAgents = manifests.Key{Group: "apps", Kind: "DaemonSet", Namespace: "x", Name: "agents"}
	keyBare   = manifests.Key{Kind: "Pod", Namespace: "x", Name: "bare"}
)

func deployment(replicas int, image string) string {
	return fmt.Sprintf(`{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"namespace":"x","name":"web"},"spec":{"replicas":%d,`+
		`"selector":{"matchLabels":{"of":"web"}},"template":{"metadata":{"labels":{"of":"web"}},"spec":{"containers":[{"name":"c","image":%q,"resources":{"requests":{"cpu":"100m"}}}]}}}}`, replicas, image)
}

const daemonSet = `{"apiVersion":"apps/v1","kind":"DaemonSet","metadata":{"namespace":"x","name":"agents"},"spec":{` +
	`"selector":{"matchLabels":{"of":"agents"}},"template":{"metadata":{"labels":{"of":"agents"}},"spec":{"containers":[{"name":"c","image":"i"}]}}}}`

func barePod(image string) string {
	return fmt.Sprintf(`{"apiVersion":"v1","kind":"Pod","metadata":{"namespace":"x","name":"bare","labels":{"of":"bare"}},"spec":{"containers":[{"name":"c","image":%q}]}}`, image)
}

// fleetSeeds is how many fleets are tried: each takes a second on a busy host.
func fleetSeeds() uint64 {
	if testing.Short() {
		return 4
	}
	return 20
}

func TestAFleetComesToRunWhatIsDeclared(t *testing.T) {
	for seed := range fleetSeeds() {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			w := newWorld(t, seed, 2+int(seed%3))
			for range 30 {
				w.step()
			}
			w.startAll()
			for _, s := range w.nodes { // the same file on several hosts, each when it gets it
				s.declare(keyBare, barePod("i"))
				s.declare(keyWeb, deployment(6, "i"))
				if w.rng.IntN(2) == 0 {
					s.declare(keyAgents, daemonSet)
				}
				w.step()
				w.startAll()
			}
			w.nodes[0].declare(keyAgents, daemonSet)
			for range 60 {
				w.step()
			}
			w.startAll()
			w.settle()
			want := map[string]int{"web": 6, "agents": len(w.nodes), "bare": 1}
			w.check(want)
			if t.Failed() {
				t.Fatalf("after the start:\n%s", w)
			}

			before := w.String()
			for range 150 {
				w.step()
			}
			w.startAll()
			w.settle()
			w.check(want)
			if after := w.String(); after != before {
				t.Errorf("without anything declared anew there ran\n%s\nand then\n%s", before, after)
			}

			for _, s := range w.nodes {
				if s.own(claimName(keyWeb)) != nil {
					s.declare(keyWeb, deployment(4, "j"))
				}
				s.declare(keyAgents, "")
				for range 10 {
					w.step()
				}
				w.startAll()
			}
			w.settle()
			w.check(map[string]int{"web": 4, "bare": 1})
			for _, s := range w.nodes {
				for uid, p := range s.running {
					if of := p.Labels["of"]; of == "web" && p.Spec.Containers[0].Image != "j" {
						t.Errorf("%s is of the old template, %s", uid, p.Name)
					}
				}
				s.declare(keyWeb, "")
				s.declare(keyBare, "")
				w.step()
			}
			w.startAll()
			w.settle()
			w.check(nil)
			for _, s := range w.nodes {
				for _, section := range []record.Section{record.Decisions, record.Status} {
					keys := slices.DeleteFunc(s.ownKeys(section), func(key string) bool { return key == s.nodeKey().String() })
					if len(keys) > 0 {
						t.Errorf("%s still says of %v (%s)", s.name, keys, section)
					}
				}
			}
		})
	}
}

func (w *world) startAll() {
	for _, s := range w.nodes {
		if !s.up {
			s.start()
		}
	}
}

func TestWhatADeadNodeDecidedGoesOn(t *testing.T) {
	for seed := range fleetSeeds() {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			w := newWorld(t, seed, 3)
			for _, s := range w.nodes {
				s.declare(keyWeb, deployment(6, "i"))
			}
			w.nodes[0].declare(keyAgents, daemonSet)
			w.nodes[0].declare(keyBare, barePod("i"))
			w.settle()
			want := map[string]int{"web": 6, "agents": 3, "bare": 1}
			w.check(want)
			dead := w.nodes[seed%3]
			kept := make(map[types.UID]string)
			for _, s := range w.nodes {
				for uid, p := range s.running {
					if kept[uid] = s.name; s == dead {
						want[p.Labels["of"]]--
					}
				}
			}
			dead.crash(true)
			w.settle()
			w.check(want)

			s := w.alive()[0]
			s.declare(keyWeb, deployment(9, "i"))
			w.settle()
			want["web"] += 3
			w.check(want)
			for _, s := range w.alive() {
				for uid := range s.running {
					if node, old := kept[uid]; old && node != s.name {
						t.Errorf("%s has moved from %s to %s", uid, node, s.name)
					}
					delete(kept, uid)
				}
				for key := range s.declared {
					if s.stewardOf(key) == dead.name {
						t.Errorf("the dead node decides about %s", key)
					}
				}
			}
			for uid, node := range kept {
				if node != dead.name {
					t.Errorf("%s, which ran on %s, runs no more", uid, node)
				}
			}

			if dead.lost = seed%2 == 1; dead.lost {
				dead.disk = nil
			}
			dead.start()
			if dead.lost {
				dead.takeBack()
			}
			w.settle()
			w.check(map[string]int{"web": 9, "agents": 3, "bare": 1})
			for uid, node := range kept { // those of the dead node
				if w.node(node).running[uid] == nil {
					t.Errorf("%s does not run on %s any more", uid, node)
				}
			}
			if t.Failed() {
				t.Fatalf("at the end:\n%s", w)
			}
		})
	}
}

func TestAPodThatANodeRefusesIsPlacedElsewhere(t *testing.T) {
	w := newWorld(t, 1, 2)
	a, b := w.nodes[0], w.nodes[1]
	a.hear(b)
	b.hear(a)
	// Each places one pod where the other does, before it knows.
	for i, s := range []*simulated{a, b} {
		s.sees[w.nodes[1-i].name] = false
		s.look()
		key := manifests.Key{Kind: "Pod", Namespace: "x", Name: s.name}
		s.declare(key, fmt.Sprintf(`{"apiVersion":"v1","kind":"Pod","metadata":{"namespace":"x","name":%q,"labels":{"of":"large"}},"spec":{"containers":[{"name":"c","image":"i","resources":{"requests":{"cpu":"700m"}}}]}}`, s.name))
	}
	bind := func(s *simulated, to string) {
		key := manifests.Key{Kind: "Pod", Namespace: "x", Name: s.name}
		o, _ := s.view.Get(key)
		values := make(map[record.Name]json.RawMessage)
		s.bind(values, o.(*v1.Pod), to)
		s.publish(values)
	}
	bind(a, "n1")
	bind(b, "n1")
	w.settle()
	w.check(map[string]int{"large": 2})
	if len(a.running) != 1 || len(b.running) != 1 {
		t.Errorf("they run where there is no room:\n%s", w)
	}
}
