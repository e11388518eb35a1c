package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// shoal gets a file renamed into its directory.
type shoal struct{ api *http.Client }

const (
	manifestDir = "/etc/shoal/manifests"
	shoalImage  = "rootfs://" + work + "/rootfs"
	shoalSocket = "/run/shoal/shoal.sock"
)

func newShoal() *shoal {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", shoalSocket)
	}
	return &shoal{&http.Client{Transport: &http.Transport{DialContext: dial}, Timeout: patience}}
}

// fresh is a finished file beside the directory that is watched.
func (*shoal) fresh(pod string) string { return filepath.Join("/etc/shoal", pod+".yaml") }

func (s *shoal) prepare(_ context.Context, pod string) error {
	return os.WriteFile(s.fresh(pod), manifest(pod, shoalImage), 0o644)
}

func (s *shoal) start(_ context.Context, pod string) error {
	return os.Rename(s.fresh(pod), filepath.Join(manifestDir, pod+".yaml"))
}

func (s *shoal) stop(ctx context.Context, pod string) error {
	if err := os.RemoveAll(filepath.Join(manifestDir, pod+".yaml")); err != nil {
		return err
	}
	os.Remove(s.fresh(pod)) // only there if start was not reached
	return poll(ctx, func() error {
		if _, err := s.get(ctx, "/api/v1/namespaces/default/pods/"+pod, ""); err == nil {
			return fmt.Errorf("pod %s is still there", pod)
		} else if _, notFound := err.(statusError); !notFound {
			return err
		}
		return nil
	})
}

// statusError is an answer that is no success.
type statusError string

func (e statusError) Error() string { return string(e) }

// get fetches a path of the API and returns the body; accept "" asks for JSON.
func (s *shoal) get(ctx context.Context, path, accept string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, "GET", "http://shoal"+path, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	if accept != "" {
		req.Header.Set("Accept", accept)
	}
	resp, err := s.api.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = statusError(fmt.Sprintf("GET %s: %s: %s", path, resp.Status, body))
	}
	return body, err
}

// podObject is what this program looks at of a pod.
type podObject struct {
	Metadata struct{ Name, Namespace string }
	Status   struct {
		PodIP             string
		Conditions        []struct{ Type, Status string }
		ContainerStatuses []struct{ RestartCount int }
	}
}

func (p podObject) ready() bool {
	for _, c := range p.Status.Conditions {
		if c.Type == "Ready" {
			return c.Status == "True"
		}
	}
	return false
}

func (p podObject) restarts() (n int) {
	for _, c := range p.Status.ContainerStatuses {
		n += c.RestartCount
	}
	return n
}

// pods are all of the host.
func (s *shoal) pods(ctx context.Context) ([]podObject, error) {
	body, err := s.get(ctx, "/api/v1/pods", "")
	if err != nil {
		return nil, err
	}
	var list struct{ Items []podObject }
	err = json.Unmarshal(body, &list)
	return list.Items, err
}

// use calls the API as kubectl and dashboards do: lists, tables, single objects, discovery, events.
func (s *shoal) use(ctx context.Context, calls int) error {
	const table = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
	found, err := s.pods(ctx)
	if err != nil {
		return err
	}
	requests := [][2]string{
		{"/api/v1/pods", ""}, {"/api/v1/pods", table}, {"/api/v1/namespaces/default/pods?limit=500", table},
		{"/api/v1/nodes", ""}, {"/api/v1/events", ""}, {"/api/v1/namespaces", table},
		{"/api", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json"}, {"/version", ""},
	}
	for i := range calls {
		request := requests[i%len(requests)]
		if n := len(found); n > 0 && i%3 == 0 {
			m := found[i/3%n].Metadata
			request = [2]string{"/api/v1/namespaces/" + m.Namespace + "/pods/" + m.Name, ""}
		}
		if _, err := s.get(ctx, request[0], request[1]); err != nil {
			return err
		}
	}
	return nil
}

// poll tries until it works or patience is over; then the last failure is the error.
func poll(ctx context.Context, try func() error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		err := try()
		if err == nil {
			return nil
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("%w (last: %w)", context.Cause(ctx), err)
		}
	}
}
