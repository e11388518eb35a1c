package nodelife

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/tools/txtar"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

var update = flag.Bool("update", false, "write what comes out into the stories")

var epoch = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// TestStories: what happens to hosts, in virtual time, and what one daemon
// decides of it. Steps of a script:
//
//	node NAMES [zone=Z] [never]    members that are alive and ready; never: that have published nothing
//	pods NAME...                   on each of these nodes a pod with default tolerations, named after it
//	pod NAME NODE [SECONDS|ever]   with tolerations of its own
//	set KEY VALUE                  of the configuration
//	NAMES alive|failed|left|unseen|unready|ready
//	run DURATION                   what comes of it, each line with the time since the beginning
func TestStories(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) < 10 {
		t.Fatalf("found %d stories, err %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			a, err := txtar.ParseFile(file)
			if err != nil || len(a.Files) != 2 {
				t.Fatalf("want a script and an outcome: %v", err)
			}
			got, want := newFleet(t).tell(string(a.Files[0].Data)), string(a.Files[1].Data)
			if *update {
				a.Files[1].Data = []byte(got)
				if err := os.WriteFile(file, txtar.Format(a), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

// fleet is what one daemon sees, and all nodes' stewards doing what it decides.
type fleet struct {
	t      *testing.T
	now    time.Time
	config Config
	nodes  []*Node
	pods   []*v1.Pod
	memory Memory
	last   Outcome
	out    strings.Builder
}

func newFleet(t *testing.T) *fleet { return &fleet{t: t, now: epoch, config: Defaults()} }

func (f *fleet) tell(script string) string {
	for line := range strings.Lines(script) {
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		switch words[0] {
		case "node":
			f.node(words[1:])
		case "pods":
			for _, name := range words[1:] {
				f.pod("on-"+name, name, "")
			}
		case "pod":
			f.pod(words[1], words[2], strings.Join(words[3:], ""))
		case "set":
			f.set(words[1], words[2])
		case "run":
			d, err := time.ParseDuration(words[1])
			if err != nil {
				f.t.Fatal(err)
			}
			f.run(f.now.Add(d))
		default:
			f.happen(words[:len(words)-1], words[len(words)-1])
		}
	}
	return f.out.String()
}

func (f *fleet) node(words []string) {
	var names []string
	labels, never := make(map[string]string), false
	for _, w := range words {
		switch z, ok := strings.CutPrefix(w, "zone="); {
		case ok:
			labels[v1.LabelTopologyZone], labels[v1.LabelTopologyRegion] = z, "r"
		case w == "never":
			never = true
		default:
			names = append(names, expand(w)...)
		}
	}
	for _, name := range names {
		n := &Node{Name: name, State: Alive, Since: f.now, Object: &v1.Node{}}
		n.Object.Name, n.Object.Labels, n.Object.CreationTimestamp = name, labels, metav1.NewTime(f.now)
		n.Object.Status.Conditions = []v1.NodeCondition{
			{Type: v1.NodeMemoryPressure, Status: v1.ConditionFalse}, {Type: v1.NodeDiskPressure, Status: v1.ConditionFalse},
			{Type: v1.NodePIDPressure, Status: v1.ConditionFalse},
			{Type: v1.NodeReady, Status: v1.ConditionTrue, LastTransitionTime: metav1.NewTime(f.now)}}
		if never {
			n.Object = nil
		}
		f.nodes = append(f.nodes, n)
	}
}

// expand makes n1..n4 of "n1-4".
func expand(word string) []string {
	from, to, ok := strings.Cut(word, "-")
	if !ok {
		return []string{word}
	}
	prefix := strings.TrimRight(from, "0123456789")
	first, _ := strconv.Atoi(strings.TrimPrefix(from, prefix))
	last, err := strconv.Atoi(to)
	if err != nil {
		return []string{word}
	}
	var names []string
	for i := first; i <= last; i++ {
		names = append(names, fmt.Sprint(prefix, i))
	}
	return names
}

func (f *fleet) pod(name, node, tolerates string) {
	p := &v1.Pod{}
	p.Namespace, p.Name, p.Spec.NodeName, p.CreationTimestamp = "default", name, node, metav1.NewTime(f.now)
	switch tolerates {
	case "":
	case "ever":
		p.Spec.Tolerations = []v1.Toleration{{Operator: v1.TolerationOpExists}}
	default:
		seconds, err := strconv.ParseInt(tolerates, 10, 64)
		if err != nil {
			f.t.Fatal(err)
		}
		p.Spec.Tolerations = []v1.Toleration{{Key: v1.TaintNodeUnreachable, Operator: v1.TolerationOpExists, Effect: v1.TaintEffectNoExecute, TolerationSeconds: &seconds}}
	}
	Tolerate(&p.Spec, f.config.PodEvictionTimeout)
	f.pods = append(f.pods, p)
}

func (f *fleet) set(key, value string) {
	var err error
	number := func() float64 { n, e := strconv.ParseFloat(value, 64); err = e; return n }
	switch key {
	case "node_eviction_rate":
		f.config.NodeEvictionRate = number()
	case "secondary_node_eviction_rate":
		f.config.SecondaryNodeEvictionRate = number()
	case "large_cluster_size_threshold":
		f.config.LargeClusterSizeThreshold = int(number())
	case "pod_eviction_timeout":
		f.config.PodEvictionTimeout, err = time.ParseDuration(value)
	case "node_monitor_grace_period":
		f.config.NodeMonitorGracePeriod, err = time.ParseDuration(value)
	default:
		f.t.Fatalf("no setting %s", key)
	}
	if err != nil {
		f.t.Fatal(err)
	}
}

func (f *fleet) happen(names []string, what string) {
	fmt.Fprintf(&f.out, "%5s %s %s\n", f.now.Sub(epoch), strings.Join(names, " "), what)
	for _, word := range names {
		for _, name := range expand(word) {
			i := slices.IndexFunc(f.nodes, func(n *Node) bool { return n.Name == name })
			if i < 0 {
				f.t.Fatalf("no node %s", name)
			}
			n := f.nodes[i]
			switch what {
			case "ready", "unready":
				n.Object = n.Object.DeepCopy()
				c := condition(n.Object, v1.NodeReady)
				c.Status, c.LastTransitionTime = map[string]v1.ConditionStatus{"ready": v1.ConditionTrue, "unready": v1.ConditionFalse}[what], metav1.NewTime(f.now)
			case "alive", "failed", "left", "unseen":
				n.State, n.Since = map[string]State{"alive": Alive, "failed": Failed, "left": Left, "unseen": Unseen}[what], f.now
			default:
				f.t.Fatalf("%s can't be %q", name, what)
			}
		}
	}
}

// run lets time pass: decisions are made when they are asked for, and pods go
// when taints drive them out.
func (f *fleet) run(until time.Time) {
	for steps := 0; ; steps++ {
		o := f.decide()
		next := until
		if !o.Again.IsZero() && o.Again.Before(next) {
			next = o.Again
		}
		for _, e := range f.evictions() {
			if e.At.After(f.now) {
				if e.At.Before(next) {
					next = e.At
				}
				continue
			}
			fmt.Fprintf(&f.out, "%5s evict %s of %s\n", f.now.Sub(epoch), e.Pod.Name, e.Pod.Spec.NodeName)
			f.pods = slices.DeleteFunc(f.pods, func(p *v1.Pod) bool { return p == e.Pod })
		}
		if !f.now.Before(until) {
			return
		}
		if !next.After(f.now) || steps > 100_000 {
			f.t.Fatalf("at %s asked to look again at %s", f.now, next)
		}
		f.now = next
	}
}

func (f *fleet) input() Input {
	in := Input{Now: f.now, Config: f.config, Memory: f.memory}
	for _, n := range f.nodes {
		in.Nodes = append(in.Nodes, *n)
	}
	return in
}

func (f *fleet) decide() Outcome {
	o := Decide(f.input())
	before := strings.Split(f.last.String(), "\n")
	after := strings.Split(o.String(), "\n")
	for _, line := range after {
		if !slices.Contains(before, line) {
			fmt.Fprintf(&f.out, "%5s %s\n", f.now.Sub(epoch), line)
		}
	}
	for name := range f.last.Verdicts {
		if _, still := o.Verdicts[name]; !still {
			defer fmt.Fprintf(&f.out, "%5s %s: nothing to add\n", f.now.Sub(epoch), name)
		}
	}
	if f.last.Frozen != "" && o.Frozen == "" {
		fmt.Fprintf(&f.out, "%5s may evict\n", f.now.Sub(epoch))
	}
	for _, n := range f.nodes {
		n.Was = o.Verdicts[n.Name]
	}
	f.last, f.memory = o, o.Memory
	return o
}

func (f *fleet) evictions() []Eviction {
	seen := make(map[string]*v1.Node)
	for _, n := range f.nodes {
		if n.Object != nil {
			seen[n.Name] = n.Was.Apply(n.Object)
		}
	}
	return Evictions(f.pods, seen)
}
