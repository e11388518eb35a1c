package daemon

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"

	"github.com/shoal-project/shoal/daemon/agent"
	"github.com/shoal-project/shoal/daemon/api"
	"github.com/shoal-project/shoal/daemon/cluster"
	"github.com/shoal-project/shoal/daemon/config"
	"github.com/shoal-project/shoal/daemon/event"
	"github.com/shoal-project/shoal/daemon/gossip"
	"github.com/shoal-project/shoal/daemon/metrics"
	"github.com/shoal-project/shoal/daemon/peer"
	"github.com/shoal-project/shoal/daemon/record"
	"github.com/shoal-project/shoal/daemon/scope"
	"github.com/shoal-project/shoal/daemon/tenure"
	"github.com/shoal-project/shoal/daemon/view"
	"github.com/shoal-project/shoal/daemon/workload"
	"github.com/shoal-project/shoal/manifests"
)

// Options is how shoald was started.
type Options struct {
	Root    string // the host's root; "/" but in tests
	Config  *config.Config
	Reload  func() (*config.Config, error) // reads the configuration again, for SIGHUP
	Version string
	Log     *slog.Logger
	Now     func() time.Time
	Wire    *Wire // nil: the kernel's sockets
}

func (o Options) path(p string) string { return filepath.Join(o.Root, p) }

// Daemon is a running shoald. Its fields belong to the loop, except those that
// never change and those that are safe for concurrent use.
type Daemon struct {
	Options
	cluster string // the cluster's id
	started time.Time

	calls   chan func()   // run in the loop
	scanned chan struct{} // holds one: look at the files

	reads  chan chan struct{} // look at the files from now on; closed when what they say is in force
	writes chan struct{}      // holds one: an API write is under way, from its checks to its being in force

	unsettled <-chan time.Time // look at the files again then; nil: no need
	hangups   chan os.Signal

	clock   *record.Clock
	store   keeper
	key     ed25519.PrivateKey // the node's
	pins    *cluster.Pins
	records *peer.Set
	arrived *arrivals
	fleet   fleet
	tenant  tenant
	view    *view.View
	events  *event.Recorder

	reader   *manifests.Reader
	statics  *manifests.Reader // of static pods
	static   static
	set      manifests.Set
	memory   manifests.Memory
	declared map[manifests.Key]*v1.Pod // pods that files declare
	refused  map[manifests.Key]string  // declared objects that are not put in force, and why
	gone     map[types.UID]bool        // pods of which nothing is left on this host, and that are not forgotten
	used     map[string]int            // objects in each namespace
	ending   map[string]time.Time      // namespaces that go when they are empty, and since when
	missing  map[string]time.Time      // claims whose files were gone at the last scan, and since when
	changed  bool                      // an object, since the loop last looked
	claimed  claimed
	claiming
	looks   looks   // which controllers are to look again
	waiting waiting // pods without a node

	stewards     stewards
	nodes        nodes
	services     services
	lead         lead
	declarations declarations
	leftovers    leftovers
	refusals     refusals
	deadlines    deadlines
	strangers    map[string]time.Time // nodes that pods name and nobody knows, and since when

	host     *host
	about    func() *v1.Node        // what the node says of itself
	sees     func() []gossip.Member // who is there, in a simulation without gossip
	tokens   *tokens
	agent    *agent.Agent
	leases   *leases
	pressure atomic.Pointer[nodePressure] // never nil after start
	power    atomic.Pointer[power]        // nil: the host has been up all the time
	rooms    rooms                        // whom the node has taken in
	planning sync.Mutex                   // held by whoever makes a plan
}

// Run runs shoald until ctx ends. Pods go on without it.
func Run(ctx context.Context, o Options) error {
	d := newDaemon(o)
	d.about, d.hangups = d.bareNode, hangups()
	defer signal.Stop(d.hangups)
	if err := d.openStore(); err != nil {
		return err
	}
	defer d.closeStore()
	defer d.keepEvents()()
	var err error
	if d.tokens, err = openTokens(d); err != nil {
		return err
	}
	h, err := openHost(ctx, d)
	if err != nil {
		return unlessEnded(ctx, err)
	}
	defer h.close()
	d.host = h
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	d.leases = newLeases(d)
	d.agent = agent.New(ctx, d.agentConfig())
	h.meter = d.newMeter()
	h.metrics = metrics.New(d.metricSources())
	defer d.agent.Wait()
	defer d.fleet.done.Wait()
	defer stop() // before Wait

	if err := d.start(ctx); err != nil {
		return unlessEnded(ctx, err)
	}
	return d.loop(ctx)
}

// newDaemon is one with nothing open.
func newDaemon(o Options) *Daemon {
	d := &Daemon{
		Options: o, started: o.Now(),
		calls: make(chan func()), scanned: make(chan struct{}, 1), reads: make(chan chan struct{}), writes: make(chan struct{}, 1),
		clock: record.NewClock(o.Now), view: view.New(o.Now()),
		declared: make(map[manifests.Key]*v1.Pod), gone: make(map[types.UID]bool), used: make(map[string]int),
		ending: make(map[string]time.Time), missing: make(map[string]time.Time), looks: newLooks(), services: newServices(), lead: newLead(),
		claimed: make(claimed), claiming: newClaiming(), arrived: newArrivals(),
		tenant: tenant{client: tenure.NewClient(o.path(tenure.Socket)), wake: make(chan struct{}, 1)},
	}
	d.events = event.NewRecorder(d.view, o.Config.Node, o.Now, o.Log)
	return d
}

// keepEvents has events outlive the daemon. What it returns ends that, with all
// that was recorded written.
func (d *Daemon) keepEvents() (end func()) {
	run, err := d.events.Keep(d.path("var/lib/shoal/events.jsonl"))
	if err != nil {
		d.Log.Warn("events will not outlive a restart of shoald", "err", err)
		return func() {}
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		run(ctx)
	}()
	return func() {
		stop()
		<-done
	}
}

// unlessEnded is err, but nil for a daemon that was told to end: what failed
// then was called off.
func unlessEnded(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// openStore opens the record store and makes this node known in it.
func (d *Daemon) openStore() error {
	lib := d.path("var/lib/shoal")
	if err := os.MkdirAll(lib, 0o711); err != nil {
		return fmt.Errorf("make %s: %w", lib, err)
	}
	// Before others make it on their way to something that only root may see: the
	// group shoal passes it to the API's socket.
	if err := os.MkdirAll(d.path("run/shoal"), 0o755); err != nil {
		return fmt.Errorf("make /run/shoal: %w", err)
	}
	store, err := record.Open(filepath.Join(lib, "store.db"), d.Log)
	if err != nil {
		return err
	}
	d.store = store
	if err := d.openRecords(); err != nil {
		return errors.Join(err, store.Close())
	}
	if err := d.openMemory(); err != nil {
		d.Log.Error("the last good versions of files can't be read", "err", err)
	}
	return nil
}

// keepName gives the node the name that it has in its store: pods and volumes
// belong to that name, and a host's name may change under it (DHCP, cloud-init).
func (d *Daemon) keepName() error {
	known := d.store.Meta("node")
	switch {
	case known == "":
		return d.store.SetMeta("node", d.Config.Node)
	case known == d.Config.Node:
	case d.Config.NodeGiven:
		return fmt.Errorf("the configuration calls this node %q, but its pods and volumes are those of node %q: "+
			"set node = %q, or remove /var/lib/shoal to begin anew", d.Config.Node, known, known)
	default:
		d.Log.Warn("the host's name has changed: the node keeps its own", "node", known, "host", d.Config.Node)
		d.Config.Node = known
	}
	return nil
}

func (d *Daemon) closeStore() {
	if err := d.store.Close(); err != nil {
		d.Log.Error("can't close the store", "err", err)
	}
}

// start brings up what was, then what should be.
func (d *Daemon) start(ctx context.Context) error {
	for _, dir := range []string{"run/shoal", "etc/shoal/manifests", "var/lib/shoal/manifests"} {
		if err := os.MkdirAll(d.path(dir), 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			d.Log.Warn("can't make a directory", "dir", d.path(dir), "err", err)
		}
	}
	if err := d.adopt(); err != nil {
		return err
	}
	d.foldAll()
	d.restorePressure()
	inhibitor := d.openShutdown(ctx)
	sources := manifests.StandardSources(d.Root)
	d.reader = manifests.NewReader(sources)
	if err := d.reader.Restore(d.memory); err != nil {
		d.Log.Error("some last good versions of files are lost", "err", err)
	}
	// Before the files are looked at: what that starts must not be taken for
	// something that an earlier daemon left.
	if err := d.agent.Run(ctx, append(d.here(d.pods()), d.leftovers.list()...)); err != nil {
		return err
	}
	d.statics = d.openStatic()
	d.lookAround()
	d.publishNode() // before there are pods to be placed on it
	d.accept(d.reader.Scan(), d.statics.Scan())
	for _, c := range d.nodeConditions() {
		if c.Type == conditionLimits && c.Status == v1.ConditionFalse {
			d.events.Warning(d.nodeReference(), "LimitsNotEnforced", "%s", c.Message)
		}
	}
	d.runPods()
	go d.readFiles(ctx)
	go d.watchFiles(ctx, sources)
	go d.host.weighSlices(ctx)
	go d.host.serveDNS(ctx)
	go d.host.leadServices(ctx)
	go d.awaitNetwork(ctx)
	go d.followWays(ctx)
	go d.host.loadDropIns(ctx)
	go d.watchImages(ctx)
	go d.collectGarbage(ctx)
	go d.watchPressure(ctx)
	go d.watchShutdown(ctx, inhibitor)
	go d.leases.run(ctx)
	d.fleet.run = func() { d.fleet.done.Go(func() { d.runFleet(ctx) }) }
	if d.fleet.wanted {
		d.fleet.run()
		d.fleet.done.Go(func() { d.unprovenTwin(ctx) })
	}
	d.fleet.done.Go(func() { d.runLease(ctx) })
	return d.serveAPI(ctx)
}

// foldAll makes the view from the records.
func (d *Daemon) foldAll() {
	all := []manifests.Key{d.nodeKey()}
	for _, ns := range builtin {
		all = append(all, manifests.Key{Kind: "Namespace", Name: ns})
	}
	for _, c := range workload.SystemPriorityClasses() {
		all = append(all, classKey(c.Name))
	}
	d.records.Read(func(records map[string]*record.Record) {
		for _, r := range records {
			for name := range r.Entries {
				if key, err := manifests.ParseKey(name.Key); err == nil {
					all = append(all, key)
				}
			}
		}
	})
	d.fold(all)
}

// adopt takes decisions about running pods that were not saved in time back
// from what the agent kept beside the pods. Where the record has a pod of the
// same name with another UID, that one is older: its replacement is decided on
// only after nothing of it was left on the host.
func (d *Daemon) adopt() error {
	values, err := d.adopted()
	if len(values) > 0 {
		d.say(values)
	}
	return err
}

// adopted are those decisions.
func (d *Daemon) adopted() (map[record.Name]json.RawMessage, error) {
	found, err := d.agent.Found()
	if err != nil {
		return nil, err
	}
	return d.adoptFound(found)
}

func (d *Daemon) adoptFound(found []*v1.Pod) (map[record.Name]json.RawMessage, error) {
	values := make(map[record.Name]json.RawMessage)
	for _, p := range found {
		d.rooms.take(p.UID)
		name := record.Name{Section: record.Decisions, Key: podKey(p).String()}
		if p.Spec.NodeName != d.Config.Node {
			continue
		}
		if d.isOthers(podKey(p), p) {
			continue
		}
		if decision := d.own(name); hasUID(decision, p.UID) {
			if p = withFound(decision, p); p == nil {
				continue
			}
		}
		value, err := json.Marshal(p)
		if err == nil {
			err = d.decideOn(values, podKey(p), value)
		}
		if err != nil {
			return nil, fmt.Errorf("adopt %s/%s: %w", p.Namespace, p.Name, err)
		}
	}
	return values, nil
}

// hasUID says whether a decision is about the pod of that UID.
func hasUID(decision json.RawMessage, uid types.UID) bool {
	var p v1.Pod
	return decision != nil && json.Unmarshal(decision, &p) == nil && p.UID == uid
}

func (d *Daemon) watchFiles(ctx context.Context, sources []manifests.Source) {
	changed := func() {
		d.rescan()
		go scope.Anticipate() // most edits make a scope; an error only costs time
	}
	if err := manifests.Watch(ctx, append(sources, manifests.StaticPods(d.Root)), changed, d.Log); err != nil && ctx.Err() == nil {
		d.Log.Error("can't watch for edited files: they are looked at every 30 s", "err", err)
	}
}

// readFiles is the goroutine that owns the reader from here on. A file may take
// seconds to read, and a dead network disk for ever: the loop does not wait.
func (d *Daemon) readFiles(ctx context.Context) {
	for {
		var asked chan struct{}
		select {
		case <-d.scanned:
		case asked = <-d.reads:
		case <-ctx.Done():
			return
		}
		set, static := d.reader.Scan(), d.statics.Scan()
		if err := d.do(ctx, func() { d.accept(set, static) }); err != nil {
			return
		}
		if asked != nil {
			close(asked)
		}
	}
}

// reread returns when what the files say at the call, or later, is in force.
func (d *Daemon) reread(ctx context.Context) error {
	done := make(chan struct{})
	select {
	case d.reads <- done:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// rescan has the files looked at soon.
func (d *Daemon) rescan() {
	select {
	case d.scanned <- struct{}{}:
	default:
	}
}

// loop is the goroutine that owns the record. It ends with ctx.
func (d *Daemon) loop(ctx context.Context) error {
	tick := time.NewTicker(30 * time.Second) // heals what no event told us of
	defer tick.Stop()
	node := time.NewTicker(d.Config.Eviction.NodeStatusUpdateFrequency)
	defer node.Stop()
	if !d.fleet.wanted {
		node.Stop() // nobody waits for it
	}
	watchdog := watchdogTicker()
	defer watchdog.Stop()
	rest := newRest(d.Log)
	defer rest.timer.Stop()
	notify("READY=1\nSTATUS=" + d.summary())
	defer notify("STOPPING=1")
	d.Log.Info("shoald is ready", "node", d.Config.Node, "version", d.Version, "duration", d.Now().Sub(d.started))
	for {
		select {
		case f := <-d.calls:
			f()
		case <-d.arrived.wake:
			d.takeIn()
		case <-rest.timer.C:
			rest.ended()
		case <-d.unsettled:
			d.unsettled = nil
			d.rescan()
		case <-tick.C:
			d.heal()
			d.host.podsDecided(d.pods())
			d.host.check(ctx)
			d.agent.Refresh(d.tokens.due())
			notify("STATUS=" + d.summary())
		case <-node.C:
			d.publishNode()
		case <-d.looks.timer.C:
		case <-watchdog.C:
			notify("WATCHDOG=1")
		case <-d.hangups:
			d.reload()
		case <-ctx.Done():
			return nil
		}
		d.reconcile()
		if d.changed {
			d.changed = false
			rest.worked()
		}
	}
}

// heal looks at what no event may have told of.
func (d *Daemon) heal() {
	d.rescan()
	d.events.Expire()
	d.publishNode()
	d.reportStale()
	d.tidyForgotten()
	d.records.Compact(tombstones)
}

// tombstones is how many deleted entries the record may hold before they are
// compacted away: one object's few, a hundred times over.
const tombstones = 500

// do runs f in the loop and waits for it.
func (d *Daemon) do(ctx context.Context, f func()) error {
	done := make(chan struct{})
	select {
	case d.calls <- func() { f(); close(done) }:
		<-done
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// publish puts values into this node's record, and what follows into the view.
func (d *Daemon) publish(values map[record.Name]json.RawMessage) {
	delta := d.say(values)
	d.spread(delta)
	keys := make([]manifests.Key, 0, len(delta.Entries))
	for _, e := range delta.Entries {
		if key, err := manifests.ParseKey(e.Name.Key); err == nil {
			keys = append(keys, key)
		}
	}
	d.fold(keys)
}

// fold brings the view's objects of these keys up to date with the records.
func (d *Daemon) fold(keys []manifests.Key) {
	var changes []view.Change
	touched := make(map[string]bool) // namespaces
	seen := make(map[manifests.Key]bool)
	for _, key := range keys {
		if seen[key] { // a decision and a status of one object: it must count once
			continue
		}
		seen[key] = true
		if key.GroupKind() == namespaceKind {
			touched[key.Name] = true
			continue
		}
		obj, err := d.foldOne(key)
		if err != nil {
			d.Log.Error("can't read an object", "key", key.String(), "err", err)
			continue
		}
		if obj == nil {
			obj = d.impliedClass(key)
		}
		if old, _ := d.view.Get(key); obj != nil || !d.isImplied(key, old) {
			changes = d.change(changes, key, obj)
		}
		if key.Namespace != "" {
			touched[key.Namespace] = true
		}
	}
	d.count(changes)
	// Namespaces come before what is in them and go after it.
	before, after := d.namespaces(touched)
	all := slices.Concat(before, changes, d.accounts(slices.Concat(before, after), touched), after)
	olds := make([]view.Object, len(all))
	for i, c := range all {
		olds[i], _ = d.view.Get(c.Key)
	}
	d.view.Apply(all...)
	d.changed = d.changed || len(all) > 0
	var again []manifests.Key
	for i, c := range all {
		if old := olds[i]; c.Key.GroupKind() == podKind && old != nil && (c.Object == nil || c.Object.GetUID() != old.GetUID()) {
			delete(d.gone, old.GetUID())
			delete(d.refusals, old.GetUID())
			delete(d.deadlines, old.GetUID())
		}
		d.waiting.notice(c.Key, olds[i], c.Object)
		d.noticeWays(c.Key, olds[i], c.Object)
		d.look(d.services.notice(c.Key, olds[i], c.Object)...)
		again = append(again, d.refold(c.Key, olds[i], c.Object)...)
		d.look(workload.Affected(d.view, c.Key, olds[i], c.Object)...)
	}
	for _, c := range changes {
		switch c.Key.Kind {
		case "ConfigMap", "Secret", "ServiceAccount":
			d.agent.Look(c.Key.Namespace)
		case "RuntimeClass":
			d.agent.Look("")
		}
	}
	if len(again) > 0 {
		d.fold(again)
	}
}

// object is what the records say of a key.
func (d *Daemon) object(key manifests.Key) (view.Object, error) {
	var entries view.Entries
	var err error
	d.records.Read(func(records map[string]*record.Record) { entries, err = view.Collect(records, key, d.readClaim) })
	if err != nil {
		return nil, err
	}
	return view.Fold(key, entries)
}

// change adds the object's change to the list, if there is one.
func (d *Daemon) change(changes []view.Change, key manifests.Key, obj view.Object) []view.Change {
	old, had := d.view.Get(key)
	if obj == nil && !had {
		return changes
	}
	if obj != nil && had {
		obj.SetResourceVersion(old.GetResourceVersion())
		if equality.Semantic.DeepEqual(old, obj) {
			return changes
		}
	}
	return append(changes, view.Change{Key: key, Object: obj})
}

// pods are this node's pods as the view has them.
func (d *Daemon) pods() []*v1.Pod {
	objects, _ := d.view.List(podKind, "")
	var pods []*v1.Pod
	for _, o := range objects {
		if p := o.(*v1.Pod); p.Spec.NodeName == d.Config.Node {
			pods = append(pods, p)
		}
	}
	return pods
}

// summary is the node in one line, for systemctl status.
func (d *Daemon) summary() string {
	return strconv.Itoa(len(d.pods())) + " pods, " + strconv.Itoa(len(d.set.Files)) + " files, " +
		strconv.Itoa(len(d.set.AllProblems())) + " problems in them"
}

var _ api.Shoal = (*Daemon)(nil)
