package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/shoal-project/shoal/daemon/api"
)

// call asks the node for something below /shoal/v1 and returns the body.
func (n *node) call(ctx context.Context, method, path string, body io.Reader) (io.ReadCloser, error) {
	r, err := http.NewRequestWithContext(ctx, method, host+"/shoal/v1/"+path, body)
	if err != nil {
		return nil, err
	}
	resp, err := n.client().Do(r)
	if err != nil {
		return nil, fmt.Errorf("ask shoald: %w", err)
	}
	if resp.StatusCode < 300 {
		return resp.Body, nil
	}
	defer resp.Body.Close()
	var status metav1.Status
	b, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if json.Unmarshal(b, &status) != nil || status.Message == "" {
		return nil, fmt.Errorf("ask shoald: %s", resp.Status)
	}
	return nil, errors.New(status.Message)
}

func fetch[T any](ctx context.Context, n *node, path string) (T, error) {
	var v T
	b, err := n.call(ctx, http.MethodGet, path, nil)
	if err != nil {
		return v, err
	}
	defer b.Close()
	if err := json.NewDecoder(b).Decode(&v); err != nil {
		return v, fmt.Errorf("answer of shoald: %w", err)
	}
	return v, nil
}

// transfer is a pull or a load: progress goes to show, the images come back.
func (n *node) transfer(ctx context.Context, path string, body io.Reader, show func(api.Progress)) ([]api.Image, error) {
	b, err := n.call(ctx, http.MethodPost, path, body)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	dec := json.NewDecoder(b)
	for {
		var e api.ImageEvent
		err := dec.Decode(&e)
		switch {
		case err != nil:
			return nil, fmt.Errorf("answer of shoald: %w", err)
		case e.Error != "":
			return nil, errors.New(e.Error)
		case e.Progress != nil:
			show(*e.Progress)
		default:
			return e.Images, nil
		}
	}
}
