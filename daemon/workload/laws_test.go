package workload

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	apps "k8s.io/api/apps/v1"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"pgregory.net/rapid"

	"github.com/shoal-project/shoal/daemon/view"
	"github.com/shoal-project/shoal/manifests"
)

var webKey = manifests.Key{Group: "apps", Kind: "Deployment", Namespace: "default", Name: "web"}

// wish is what a person may want of a deployment.
type wish struct {
	replicas, surge, unavailable, minReady int32
	image                                  string
	recreate, paused                       bool
}

func drawWish(rt *rapid.T) wish {
	w := wish{
		replicas: rapid.Int32Range(0, 7).Draw(rt, "replicas"), surge: rapid.Int32Range(0, 3).Draw(rt, "surge"),
		unavailable: rapid.Int32Range(0, 3).Draw(rt, "unavailable"), minReady: rapid.SampledFrom([]int32{0, 0, 5}).Draw(rt, "minReady"),
		image:    rapid.SampledFrom([]string{"web:1", "web:2", "web:3"}).Draw(rt, "image"),
		recreate: rapid.IntRange(0, 9).Draw(rt, "recreate") == 0, paused: rapid.IntRange(0, 9).Draw(rt, "paused") == 0,
	}
	if w.surge+w.unavailable == 0 {
		w.surge = 1 // validation refuses none of both
	}
	return w
}

func (w wish) deployment() *apps.Deployment {
	app := map[string]string{"app": "web"}
	d := &apps.Deployment{}
	d.Name, d.Namespace = "web", "default"
	d.Spec = apps.DeploymentSpec{
		Replicas: &w.replicas, MinReadySeconds: w.minReady, Paused: w.paused, Selector: &metav1.LabelSelector{MatchLabels: app},
		Template: v1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: app}, Spec: v1.PodSpec{Containers: []v1.Container{{Name: "main", Image: w.image}}}},
		Strategy: apps.DeploymentStrategy{Type: apps.RollingUpdateDeploymentStrategyType, RollingUpdate: &apps.RollingUpdateDeployment{
			MaxSurge:       &intstr.IntOrString{IntVal: w.surge},
			MaxUnavailable: &intstr.IntOrString{IntVal: w.unavailable},
		}},
	}
	if w.recreate {
		d.Spec.Strategy = apps.DeploymentStrategy{Type: apps.RecreateDeploymentStrategyType}
	}
	manifests.Default(d)
	return d
}

// both are two runs of one story whose lists come in different orders.
type both [2]*sim

func (b both) each(f func(s *sim)) {
	for _, s := range b {
		f(s)
	}
}

// TestDeploymentLaws: whatever people wish and whatever becomes of pods,
//   - a rolling deployment that has as many available pods as it must keep is not brought below that by its controller,
//   - nor does it ask for more pods than its size and the surge, or than it did before they were made less,
//   - with pods that become ready it ends with what was wished, and nothing left to decide,
//   - and the order in which objects are listed makes no difference.
func TestDeploymentLaws(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		runs := both{newSim(t), newSim(t)}
		runs[1].shuffle = rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "order"), 1))
		w := drawWish(rt)
		runs.each(func(s *sim) { s.declare(w.deployment()); s.reconcile() })
		for range rapid.IntRange(1, 25).Draw(rt, "steps") {
			step := rapid.IntRange(0, 7).Draw(rt, "step")
			pick := rapid.IntRange(0, 15).Draw(rt, "pick")
			if step == 0 {
				w = drawWish(rt)
			}
			var before, asked [2]int32
			for i, s := range runs {
				before[i] = chance(s, step, pick, w)
				asked[i] = wanted(s.replicaSets())
			}
			for i, s := range runs {
				s.reconcile()
				if why := s.lawful(w, before[i], asked[i], step != 0); why != "" {
					rt.Fatalf("%s, with %+v:\n%s\n%s", why, w, s.out.String(), s.state())
				}
			}
		}
		if runs[0].state() != runs[1].state() || runs[0].out.String() != runs[1].out.String() {
			rt.Fatalf("the order of lists makes a difference:\n%s\n%s\nand\n%s\n%s", runs[0].out.String(), runs[0].state(), runs[1].out.String(), runs[1].state())
		}
		w.paused = false
		s := runs[0]
		s.declare(w.deployment())
		for range 40 {
			s.reconcile()
			for _, p := range s.pods() {
				if active(p) {
					s.setReady(p, true)
				}
			}
			s.end()
			s.now = s.now.Add(11 * time.Second)
		}
		s.reconcile()
		if why := s.unfinished(w); why != "" {
			rt.Fatalf("%s, with %+v:\n%s\n%s", why, w, s.out.String(), s.state())
		}
	})
}

// chance lets something happen, and returns how many pods are available then.
func chance(s *sim, step, pick int, w wish) int32 {
	pods := s.pods()
	if len(pods) > 0 {
		p := pods[pick%len(pods)]
		switch {
		case step == 1 || step == 2:
			if active(p) {
				s.setReady(p, true)
			}
		case step == 3 && pick%3 == 0:
			if active(p) {
				s.setReady(p, false)
			}
		case step == 4 && pick%5 == 0:
			if active(p) {
				s.setPhase(p, v1.PodFailed)
			}
		case step == 5 && pick%4 == 0:
			if active(p) {
				s.put(deleted(p, s.now))
			}
		case step == 6:
			s.end()
		case step == 7:
			s.now = s.now.Add(time.Duration(pick) * time.Second)
		}
	}
	if step == 0 {
		s.declare(w.deployment())
	}
	return s.available(w.minReady)
}

func (s *sim) available(minReady int32) (n int32) {
	c := s.cluster()
	for _, p := range s.pods() {
		if active(p) && c.available(p, minReady) {
			n++
		}
	}
	return n
}

func (s *sim) replicaSets() (sets []*apps.ReplicaSet) {
	for _, o := range s.objects {
		if rs, ok := o.(*apps.ReplicaSet); ok {
			sets = append(sets, rs)
		}
	}
	return sets
}

// lawful says which of the laws the present state breaks: before it, so many
// pods were available and so many asked for.
func (s *sim) lawful(w wish, before, asked int32, settled bool) string {
	sets := s.replicaSets()
	least := w.replicas - min(w.unavailable, w.replicas)
	switch {
	case w.recreate || w.paused:
	case wanted(sets) > max(w.replicas+w.surge, asked) && w.replicas > 0:
		return fmt.Sprintf("asks for %d pods", wanted(sets))
	case settled && s.available(w.minReady) < min(before, least):
		return fmt.Sprintf("has %d available of %d that must be, and had %d", s.available(w.minReady), least, before)
	}
	return ""
}

// unfinished says what lacks from what was wished.
func (s *sim) unfinished(w wish) string {
	d := s.objects[webKey].(*apps.Deployment)
	if !complete(d, &d.Status) || d.Status.ObservedGeneration != d.Generation {
		return "the deployment is not complete"
	}
	n := int32(0)
	for _, p := range s.pods() {
		if active(p) {
			n++
			if p.Spec.Containers[0].Image != w.image {
				return "a pod of an old template is left"
			}
		}
	}
	if n != w.replicas {
		return fmt.Sprintf("%d pods run", n)
	}
	out := s.out.Len()
	for key, o := range s.objects {
		for _, c := range Reconcile(key, s.cluster()).Changes {
			if was := s.objects[keyOf(c.Object)]; c.Verb != Status || !sameStatus(was, c.Object) {
				return fmt.Sprintf("%s of %s is wanted at rest (%s)", c.Verb, keyOf(c.Object), o.GetName())
			}
		}
	}
	if s.out.Len() != out {
		return "looking has effects"
	}
	return ""
}

func sameStatus(a, b view.Object) bool {
	s := newSim(nil)
	s.objects[keyOf(a)] = a
	s.dirty = map[manifests.Key]bool{}
	s.putStatus(keyOf(a), b)
	return len(s.dirty) == 0
}

// TestRecreateNeverRunsTwoTemplates: no pod is made while one of another
// template may still run.
func TestRecreateNeverRunsTwoTemplates(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		s := newSim(t)
		w := drawWish(rt)
		w.recreate, w.paused = true, false
		s.declare(w.deployment())
		for range rapid.IntRange(1, 20).Draw(rt, "steps") {
			step := rapid.IntRange(0, 7).Draw(rt, "step")
			if step == 0 {
				w.image = rapid.SampledFrom([]string{"web:1", "web:2", "web:3"}).Draw(rt, "image")
				w.replicas = rapid.Int32Range(0, 4).Draw(rt, "replicas")
			}
			chance(s, step, rapid.IntRange(0, 15).Draw(rt, "pick"), w)
			s.reconcile()
			images := map[string]bool{}
			for _, p := range s.pods() {
				if p.Status.Phase != v1.PodFailed {
					images[p.Spec.Containers[0].Image] = true
				}
			}
			if len(images) > 1 {
				rt.Fatalf("two templates run at once:\n%s", s.state())
			}
		}
	})
}
