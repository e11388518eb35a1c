package api

import (
	"context"
	"fmt"
	"net/http"
	"net/url"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// attach answers pods/attach: the streams of a container's first process, in
// the protocols of exec. Its exit code is not told, as with the kubelet: clients
// find it in the pod's status.
func (s *Server) attach(w http.ResponseWriter, r *http.Request, t target, q url.Values) error {
	if !boolParameter(q, "stdin") && !boolParameter(q, "stdout") && !boolParameter(q, "stderr") {
		return apierrors.NewBadRequest("you must specify at least 1 of stdin, stdout, stderr")
	}
	pod, err := s.localPod(t)
	if err != nil {
		return err
	}
	name, err := containerOf(pod, q.Get("container"))
	if err != nil {
		return err
	}
	if statusOf(pod, name).State.Running == nil {
		return apierrors.NewBadRequest(fmt.Sprintf("container %q in pod %q is not running", name, pod.Name))
	}
	return s.streamed(w, r, q, func(ctx context.Context, set *streamSet, sizes <-chan Size) (int, error) {
		return 0, s.Pods.Attach(ctx, pod, Attach{
			Container: name, Stdin: set.stdin, Stdout: set.stdout, Stderr: set.stderr, Resize: sizes,
		})
	})
}
