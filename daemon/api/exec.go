package api

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/wsstream"
)

// Protocols of remote commands, newest first. From version 4 the error stream
// carries a Status with the exit code, before it is text.
const (
	protocolV5 = "v5.channel.k8s.io" // websocket only: stdin can be closed
	protocolV4 = "v4.channel.k8s.io"
	protocolV3 = "v3.channel.k8s.io" // SPDY only
	protocolV2 = "v2.channel.k8s.io" // SPDY only
	protocolV1 = "channel.k8s.io"
)

// streamSet is a client's connection, whichever protocol it speaks.
type streamSet struct {
	protocol              string
	stdin                 io.Reader
	stdout, stderr, fault io.Writer
	resize                io.Reader // nil: none, or the client is gone at its EOF
	gone                  <-chan bool
	close                 func()
}

func parseExec(q url.Values) (Exec, error) {
	e := Exec{Container: q.Get("container"), Command: q["command"], TTY: boolParameter(q, "tty")}
	if len(e.Command) == 0 {
		return e, apierrors.NewBadRequest("you must specify at least one command for the container")
	}
	if !boolParameter(q, "stdin") && !boolParameter(q, "stdout") && !boolParameter(q, "stderr") {
		return e, apierrors.NewBadRequest("you must specify at least 1 of stdin, stdout, stderr")
	}
	return e, nil
}

func (s *Server) exec(w http.ResponseWriter, r *http.Request, t target, q url.Values) error {
	cmd, err := parseExec(q)
	if err != nil {
		return err
	}
	pod, err := s.localPod(t)
	if err != nil {
		return err
	}
	if cmd.Container == "" && len(pod.Spec.Containers) > 0 {
		cmd.Container = pod.Spec.Containers[0].Name // as the kubelet's exec does
	}
	if cmd.Container, err = containerOf(pod, cmd.Container); err != nil {
		return err
	}
	if statusOf(pod, cmd.Container).State.Running == nil {
		return apierrors.NewBadRequest(fmt.Sprintf("container %q in pod %q is not running", cmd.Container, pod.Name))
	}
	return s.streamed(w, r, q, func(ctx context.Context, set *streamSet, sizes <-chan Size) (int, error) {
		cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.Resize = set.stdin, set.stdout, set.stderr, sizes
		return s.Pods.Exec(ctx, pod, cmd)
	})
}

// streamed upgrades a request for a container's streams and has run copy them.
func (s *Server) streamed(w http.ResponseWriter, r *http.Request, q url.Values, run streamer) error {
	if !httpstream.IsUpgradeRequest(r) {
		return apierrors.NewBadRequest("exec and attach need an upgrade to websocket or SPDY/3.1")
	}
	upgrade := upgradeSPDY
	if wsstream.IsWebSocketRequest(r) {
		upgrade = upgradeWebSocket
	}
	set, err := upgrade(w, r, q)
	if err != nil {
		// The library has answered, or the connection is no longer HTTP.
		s.Log.Debug("exec_upgrade_failed", "err", err)
		return nil
	}
	defer set.close()
	set.serve(r.Context(), run)
	return nil
}

// streamer copies a client's streams until the other side, or ctx with the
// client, has ended. It returns the exit code of what ran.
type streamer func(ctx context.Context, set *streamSet, sizes <-chan Size) (int, error)

// serve runs what the client asked for and tells it how that ended.
func (set *streamSet) serve(ctx context.Context, run streamer) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	sizes := make(chan Size)
	read := make(chan struct{})
	go func() {
		defer close(read)
		defer close(sizes)
		readSizes(ctx, set, sizes)
		cancel()
	}()
	code, err := run(ctx, set, sizes)
	report(set, code, err)
	cancel()
	set.close()
	<-read
}

// readSizes passes terminal sizes on until the client is gone.
func readSizes(ctx context.Context, set *streamSet, sizes chan<- Size) {
	if set.resize != nil {
		dec := json.NewDecoder(set.resize)
		for {
			var size Size
			if dec.Decode(&size) != nil {
				break
			}
			select {
			case sizes <- size:
			case <-ctx.Done():
				return
			}
		}
		if set.gone == nil {
			return
		}
	}
	select {
	case <-set.gone:
	case <-ctx.Done():
	}
}

// report writes the end of a command in the form that the client's protocol
// has for it. A client that went away reads nothing, which is no fault.
func report(set *streamSet, code int, err error) {
	status := metav1.Status{Status: metav1.StatusSuccess}
	switch {
	case err != nil:
		status = apierrors.NewInternalError(err).Status()
	case code != 0:
		status = metav1.Status{
			Status:  metav1.StatusFailure,
			Reason:  "NonZeroExitCode",
			Message: fmt.Sprintf("command terminated with non-zero exit code: exit status %d", code),
			Details: &metav1.StatusDetails{Causes: []metav1.StatusCause{{Type: "ExitCode", Message: strconv.Itoa(code)}}},
		}
	}
	if set.protocol == protocolV5 || set.protocol == protocolV4 {
		if b, err := json.Marshal(status); err == nil {
			set.fault.Write(b)
		}
		return
	}
	if status.Status != metav1.StatusSuccess {
		io.WriteString(set.fault, status.Message)
	}
}
