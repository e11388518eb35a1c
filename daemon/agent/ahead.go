package agent

import (
	"context"

	v1 "k8s.io/api/core/v1"

	"github.com/shoal-project/shoal/daemon/container"
	"github.com/shoal-project/shoal/daemon/pod"
	"github.com/shoal-project/shoal/daemon/scope"
)

// ahead is the making of a new pod's first containers beside that of its sandbox,
// up to where only the scope is missing; nothing of the containers' own runs
// before it is decided. It goes by what the decider will most likely start. What
// takes long, or goes wrong, is left out: it has its turn, and says what is wrong,
// then.
type ahead struct {
	enough context.CancelFunc // begin no more
	done   chan struct{}
	runs   []*run // when done
}

// goAhead begins it, with what needs nothing of the sandbox.
func (j job) goAhead(ctx context.Context) *ahead {
	more, enough := context.WithCancel(ctx)
	a := &ahead{enough: enough, done: make(chan struct{})}
	go func() {
		defer close(a.done)
		for _, do := range j.first {
			if more.Err() != nil {
				return
			}
			if r := j.prepareRun(ctx, findContainer(j.pod, do.Container), do.Number); r != nil {
				a.runs = append(a.runs, r)
			}
		}
	}()
	return a
}

// end waits for what was begun.
func (a *ahead) end() []*run {
	<-a.done
	a.enough()
	return a.runs
}

func (j job) prepareRun(ctx context.Context, c *v1.Container, number int) *run {
	img, err := j.present(c)
	if err != nil {
		return nil
	}
	r, err := j.beginRun(ctx, c, number, img)
	if err != nil {
		return nil
	}
	r.conmon, err = j.w.agent.cfg.Containers.Park(container.Config{
		ID: r.attempt.ID, Container: c, OCI: j.oci, Dir: j.w.bundle(c.Name, number), LogPath: j.w.logFile(c.Name, number),
	})
	if err == nil {
		err = j.mountRoot(r)
	}
	if err != nil {
		j.dropRun(ctx, r)
		return nil
	}
	j.sayPresent(c)
	return r
}

// furnished are the runs, by container, with all that they need of the sandbox.
func (j job) furnished(ctx context.Context, runs []*run) map[string]*run {
	ready := make(map[string]*run)
	for _, r := range runs {
		if err := j.furnish(r); err != nil {
			j.dropRun(ctx, r)
			continue
		}
		ready[r.container.Name] = r
	}
	return ready
}

// dropRun is drop, for what is only not needed.
func (j job) dropRun(ctx context.Context, r *run) {
	if err := j.drop(ctx, r); err != nil {
		j.w.agent.log.Error("can't clean up after a container", "pod", j.w.name(), "container", r.container.Name, "err", err)
	}
}

// first is what will be started when the pod's sandbox is there, as far as that
// can be prepared: what a pod with processors of its own gets is known only then.
func (w *worker) first() []pod.Action {
	if scope.QOS(w.pod) == v1.PodQOSGuaranteed || ownUsers(w.pod) {
		return nil
	}
	p := *w.pod
	p.Status = w.status
	return pod.First(&p, w.seen, w.agent.cfg.Now())
}

// takeAhead is what was prepared for a start, nil for nothing that fits.
func (w *worker) takeAhead(name string, number int) *run {
	r := w.ahead[name]
	if r == nil || r.attempt.Number != number || w.aheadOf != w.pod {
		return nil
	}
	delete(w.ahead, name)
	return r
}

// dropAhead takes away what was prepared and is not needed.
func (w *worker) dropAhead() {
	for name, r := range w.ahead {
		w.job().dropRun(w.agent.ctx, r)
		w.containerState(name).Starting = nil
		delete(w.ahead, name)
	}
}
