package api

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/streaming/pkg/httpstream/wsstream"
)

// logOptions is v1.PodLogOptions, read from a query.
type logOptions struct {
	container        string
	follow, previous bool
	timestamps       bool
	since            time.Time // zero: from the beginning
	tail, limit      int64     // lines and bytes; negative: all
	stream           string    // "stdout", "stderr", or "" for both
}

func parseLogOptions(q url.Values, now time.Time) (logOptions, error) {
	o := logOptions{
		container: q.Get("container"), follow: boolParameter(q, "follow"), previous: boolParameter(q, "previous"),
		timestamps: boolParameter(q, "timestamps"), tail: -1, limit: -1,
	}
	number := func(name string, least int64, set func(int64)) error {
		if q.Get(name) == "" {
			return nil
		}
		n, err := intParameter(q, name)
		if err == nil && n < least {
			err = badParameter(name, fmt.Errorf("must be greater than or equal to %d", least))
		}
		set(n)
		return err
	}
	if err := number("tailLines", 0, func(n int64) { o.tail = n }); err != nil {
		return o, err
	}
	if err := number("limitBytes", 1, func(n int64) { o.limit = n }); err != nil {
		return o, err
	}
	// 9e9 seconds are beyond what a Duration holds.
	if err := number("sinceSeconds", 1, func(n int64) { o.since = now.Add(-time.Duration(min(n, 1e9)) * time.Second) }); err != nil {
		return o, err
	}
	if v := q.Get("sinceTime"); v != "" {
		if !o.since.IsZero() {
			return o, apierrors.NewBadRequest("at most one of `sinceTime` or `sinceSeconds` may be specified")
		}
		t, err := time.Parse(time.RFC3339, v)
		if err != nil {
			return o, badParameter("sinceTime", err)
		}
		o.since = t
	}
	switch v := q.Get("stream"); v {
	case "", v1.LogStreamAll:
	case v1.LogStreamStdout, v1.LogStreamStderr:
		o.stream = strings.ToLower(v)
		if o.tail >= 0 {
			return o, apierrors.NewBadRequest("`tailLines` and specific `stream` are mutually exclusive for now")
		}
	default:
		return o, apierrors.NewBadRequest(fmt.Sprintf("stream: Unsupported value: %q: supported values: All, Stdout, Stderr", v))
	}
	return o, nil
}

// log answers pods/log.
func (s *Server) log(w http.ResponseWriter, r *http.Request, t target, q url.Values) error {
	opts, err := parseLogOptions(q, s.Now())
	if err != nil {
		return err
	}
	pod, err := s.localPod(t)
	if err != nil {
		return err
	}
	if opts.container, err = containerOf(pod, opts.container); err != nil {
		return err
	}
	dir := filepath.Join(s.Pods.LogDir(pod), opts.container)
	file, err := logOf(dir, pod, opts)
	if err != nil {
		return err
	}
	ended := func() bool { return s.ended(t, pod, opts.container) || newerAttempt(file) }
	send := func(ctx context.Context, out *flushing) error {
		return copyLog(ctx, out, file, opts, follow{ended: ended, changed: s.View.Changed})
	}
	if wsstream.IsWebSocketRequest(r) {
		err = webSocketLog(w, r, send)
	} else {
		w.Header().Set("Content-Type", "text/plain")
		w.WriteHeader(http.StatusOK)
		out := &flushing{w: w, c: http.NewResponseController(w)}
		out.flush()
		err = send(r.Context(), out)
	}
	if err != nil && r.Context().Err() == nil {
		s.Log.Debug("log_stream_ended", "pod", t.name, "namespace", t.namespace, "err", err)
	}
	return nil
}

// localPod is a pod that runs on this node.
func (s *Server) localPod(t target) (*v1.Pod, error) {
	if s.Pods == nil {
		return nil, errNotHere("this node runs no pods")
	}
	o, err := s.find(t)
	if err != nil {
		return nil, err
	}
	pod := o.(*v1.Pod)
	if pod.Spec.NodeName == "" {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("pod %s does not have a host assigned", pod.Name))
	}
	return pod, nil
}

// containerOf is the container that is meant, in upstream's words when that
// is not clear.
func containerOf(pod *v1.Pod, name string) (string, error) {
	names := func(of []v1.Container) (list []string) {
		for _, c := range of {
			list = append(list, c.Name)
		}
		return list
	}
	main, initial := names(pod.Spec.Containers), names(pod.Spec.InitContainers)
	var ephemeral []string
	for _, c := range pod.Spec.EphemeralContainers {
		ephemeral = append(ephemeral, c.Name)
	}
	if name == "" {
		if len(main) == 1 && len(initial)+len(ephemeral) == 0 {
			return main[0], nil
		}
		text := fmt.Sprintf("a container name must be specified for pod %s, choose one of: [%s]", pod.Name, strings.Join(main, " "))
		if len(initial) > 0 {
			text += fmt.Sprintf(" or one of the init containers: [%s]", strings.Join(initial, " "))
		}
		if len(ephemeral) > 0 {
			text += fmt.Sprintf(" or one of the ephemeral containers: [%s]", strings.Join(ephemeral, " "))
		}
		return "", apierrors.NewBadRequest(text)
	}
	for _, list := range [][]string{main, initial, ephemeral} {
		for _, n := range list {
			if n == name {
				return name, nil
			}
		}
	}
	return "", apierrors.NewBadRequest(fmt.Sprintf("container %s is not valid for pod %s", name, pod.Name))
}

// statusOf is what the node last said of a container.
func statusOf(pod *v1.Pod, container string) v1.ContainerStatus {
	for _, list := range [][]v1.ContainerStatus{pod.Status.ContainerStatuses, pod.Status.InitContainerStatuses, pod.Status.EphemeralContainerStatuses} {
		for _, c := range list {
			if c.Name == container {
				return c
			}
		}
	}
	return v1.ContainerStatus{Name: container}
}

// ended says whether the container that pod shows has stopped by now. All that
// it wrote is in its log then.
func (s *Server) ended(t target, pod *v1.Pod, container string) bool {
	o, ok := s.View.Get(t.key())
	if !ok || o.GetUID() != pod.UID {
		return true
	}
	now := statusOf(o.(*v1.Pod), container)
	return now.State.Running == nil || now.ContainerID != statusOf(pod, container).ContainerID
}

// logOf is the log that is asked for: of the attempt that runs or ran last, or
// of the one before.
func logOf(dir string, pod *v1.Pod, opts logOptions) (string, error) {
	st := statusOf(pod, opts.container)
	attempts := attemptsIn(dir)
	var last, before string
	if n := len(attempts); n > 0 {
		last = logPath(dir, attempts[n-1])
		if n > 1 {
			before = logPath(dir, attempts[n-2])
		}
	}
	waiting := st.State.Running == nil && st.State.Terminated == nil
	if waiting && st.LastTerminationState.Terminated != nil {
		before = last // between two attempts, as in CrashLoopBackOff
	}
	switch {
	case opts.previous && (st.LastTerminationState.Terminated == nil || before == ""):
		return "", apierrors.NewBadRequest(fmt.Sprintf("previous terminated container %q in pod %q not found", opts.container, pod.Name))
	case opts.previous:
		return before, nil
	case waiting && st.LastTerminationState.Terminated == nil:
		reason := "ContainerCreating"
		if st.State.Waiting != nil && st.State.Waiting.Reason != "" {
			reason = st.State.Waiting.Reason
		}
		return "", apierrors.NewBadRequest(fmt.Sprintf("container %q in pod %q is waiting to start: %s", opts.container, pod.Name, reason))
	case last == "":
		return "", &apierrors.StatusError{ErrStatus: metav1.Status{
			Status: metav1.StatusFailure, Code: http.StatusNotFound, Reason: metav1.StatusReasonNotFound,
			Message: fmt.Sprintf("container %q in pod %q has no log yet", opts.container, pod.Name),
		}}
	}
	return last, nil
}

// flushing hands each chunk to the client at once, and gives a client that
// reads nothing up after a while.
type flushing struct {
	w io.Writer
	c interface {
		Flush() error
		SetWriteDeadline(time.Time) error
	}
}

func (f *flushing) Write(b []byte) (int, error) {
	f.c.SetWriteDeadline(time.Now().Add(writeTime))
	return f.w.Write(b)
}

func (f *flushing) flush() error { return f.c.Flush() }

// follow is what tells a follower that more may come, or that no more will.
type follow struct {
	ended   func() bool
	changed func() <-chan struct{} // closed when ended may have another answer
}

// copyLog writes a container's log in the form that is asked for.
func copyLog(ctx context.Context, w *flushing, path string, opts logOptions, f follow) error {
	lines, err := openLog(path)
	if err != nil {
		return err
	}
	defer lines.Close()
	if opts.tail >= 0 {
		if err := lines.seekTail(opts.tail); err != nil {
			return err
		}
	}
	out := &logWriter{w: w, opts: opts, left: opts.limit}
	if !opts.follow {
		return lines.copyAll(ctx, out)
	}
	return lines.followAll(ctx, out, f)
}
