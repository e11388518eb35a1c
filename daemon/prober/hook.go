package prober

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
)

// Hook carries out a container's lifecycle hook (the kubelet's
// pkg/kubelet/lifecycle/handlers.go), for as long as ctx lets it. Any answer to
// an HTTP hook is a success. FellBack says that a hook over HTTPS was answered
// in plain HTTP and then made so.
func Hook(ctx context.Context, t Target, h *v1.LifecycleHandler) (fellBack bool, err error) {
	switch {
	case h.Exec != nil:
		code, err := t.Exec(ctx, h.Exec.Command, io.Discard)
		if err == nil && code != 0 {
			err = fmt.Errorf("command ended with exit code %d", code)
		}
		return false, err
	case h.HTTPGet != nil:
		return hookHTTP(ctx, t, h.HTTPGet)
	case h.Sleep != nil:
		timer := time.NewTimer(time.Duration(h.Sleep.Seconds) * time.Second)
		defer timer.Stop()
		select {
		case <-timer.C:
			return false, nil
		case <-ctx.Done():
			return false, errors.New("container terminated before sleep hook finished")
		}
	}
	// tcpSocket among them, which the API keeps for old manifests and forbids to validate in new ones.
	return false, errors.New("the hook has no handler that can be run: give it exec, httpGet or sleep")
}

func hookHTTP(ctx context.Context, t Target, g *v1.HTTPGetAction) (fellBack bool, err error) {
	r, err := Request(ctx, t, g, "lifecycle")
	if err != nil {
		return false, err
	}
	res, err := client.Do(r)
	if err != nil && r.URL.Scheme == "https" && strings.Contains(err.Error(), "server gave HTTP response to HTTPS client") {
		r = r.Clone(ctx)
		r.URL.Scheme = "http"
		r.Header.Del("Authorization")
		fellBack = true
		res, err = client.Do(r)
	}
	if err != nil {
		return false, err
	}
	_, _ = io.CopyN(io.Discard, res.Body, maxOutput) // the answer is of no interest, only that it comes
	return fellBack, res.Body.Close()
}
