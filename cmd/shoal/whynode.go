package main

import (
	"context"
	"io"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"

	"github.com/shoal-project/shoal/daemon/api"
	"github.com/shoal-project/shoal/daemon/cure"
)

// nodeName is the name in "node n2", "node/n2" or "nodes/n2".
func nodeName(args []string) (name string, is bool) {
	kind, name, _ := strings.Cut(strings.Join(args, "/"), "/")
	return name, (kind == "node" || kind == "nodes" || kind == "no") && name != ""
}

// see finds out how a host is.
func (w asker) see(ctx context.Context, name string) (h cure.Host, err error) {
	h.Now = time.Now()
	h.Node, err = w.client.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		h.Node = nil
	case err != nil:
		return h, err
	}
	list, err := fetch[api.MemberList](ctx, w.node, "members")
	if err != nil {
		return h, err
	}
	for _, m := range list.Members {
		if m.Status != "left" {
			h.Members++
		}
		if m.Status == "alive" {
			h.Alive++
		}
		if m.Name == name {
			h.Member, h.Since = m.Status, m.Since
		}
	}
	return h, nil
}

// host says how a host is, and what becomes of its pods.
func (w asker) host(ctx context.Context, name string) error {
	h, err := w.see(ctx, name)
	if err != nil {
		return err
	}
	if h.Node == nil {
		return exitError{1, strings.TrimSpace(cure.WhyNode(name, h, nil, nil)) + " `shoal get nodes` lists them"}
	}
	on := fields.OneTermEqualSelector("spec.nodeName", name).String()
	pods, err := w.client.CoreV1().Pods("").List(ctx, metav1.ListOptions{FieldSelector: on})
	if err != nil {
		return err
	}
	about := fields.Set{"involvedObject.kind": "Node", "involvedObject.name": name}
	events, err := w.client.CoreV1().Events("").List(ctx, metav1.ListOptions{FieldSelector: about.String()})
	if err != nil {
		return err
	}
	_, err = io.WriteString(w.out, cure.WhyNode(name, h, pods.Items, events.Items))
	return err
}
