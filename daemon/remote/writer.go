// Package remote has API writes done where they are decided. A node that is
// asked for a write hands it to the node that decides about the object, and
// answers when it sees the outcome itself, so that who reads here afterwards
// finds what was written here.
//
// Resource versions count the changes of one node's view and mean nothing on
// another. So a write travels with the digest of the object that it was made
// from, as the node that took it had it: whoever carries it out has an object of
// that digest, or the write is a Conflict. That is a compare-and-set on content,
// and no update is lost whichever nodes clients talk to.
package remote

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/shoal-project/shoal/daemon/api"
	"github.com/shoal-project/shoal/daemon/view"
	"github.com/shoal-project/shoal/manifests"
)

// Path is where a node takes other nodes' writes.
const Path = "/shoal/v1/writes"

// Verb is what a write does.
type Verb string

// What writes do.
const (
	Apply       Verb = "apply"
	ApplyStatus Verb = "status"
	Delete      Verb = "delete"
)

// Nodes is the way to other nodes.
type Nodes interface {
	RoundTrip(node string, r *http.Request) (*http.Response, error)
}

// Config is what a Writer needs.
type Config struct {
	Node  string // this node's name
	Local api.Writer
	View  *view.View
	Nodes Nodes
	// Home is the node that carries out a write of an object, as this one sees
	// the cluster. An error is what the client is told.
	Home func(ctx context.Context, verb Verb, key manifests.Key) (node string, err error)
	// Unsent says of an error of Nodes that the node has not seen the request.
	Unsent func(error) bool
	Log    *slog.Logger
}

// Writer writes at the node that decides. Safe for concurrent use.
type Writer struct{ Config }

const (
	// carriedOut is how long a write may take on its node.
	carriedOut = 30 * time.Second
	// seenHere is how long the outcome may take to be seen on the node that was
	// asked: news of it is pushed.
	seenHere = 3 * time.Second
	// mostBody bounds a write and its answer, in bytes: an object of the API's
	// limit of 3 MB, as JSON with what comes besides.
	mostBody = 8 << 20
)

// write is what travels.
type write struct {
	Verb   Verb            `json:"verb"`
	Key    string          `json:"key"`
	Object json.RawMessage `json:"object,omitempty"`
	// Saw is the digest of the object that this was made from. "": of none, or, of
	// a deletion, whatever it is.
	Saw    string            `json:"saw,omitempty"`
	Write  api.WriteOptions  `json:"write,omitzero"`
	Delete api.DeleteOptions `json:"delete,omitzero"`
}

func (in write) key() manifests.Key {
	key, _ := manifests.ParseKey(in.Key) // it was made from one
	return key
}

// name is the object as people call it.
func (in write) name() string { return named(in.key()) }

func named(key manifests.Key) string {
	if key.Namespace == "" {
		return key.Kind + " " + key.Name
	}
	return key.Kind + " " + key.Namespace + "/" + key.Name
}

// outcome is the answer to a write.
type outcome struct {
	Object   json.RawMessage `json:"object,omitempty"`
	Warnings []string        `json:"warnings,omitempty"`
	Refused  *refusal        `json:"refused,omitempty"`
	Has      string          `json:"has,omitempty"` // with a conflict: the digest of the object that is there
}

// Apply implements api.Writer.
func (w *Writer) Apply(ctx context.Context, o view.Object, opts api.WriteOptions) (view.Object, []string, error) {
	key, err := manifests.KeyOf(o)
	if err != nil {
		return nil, nil, apierrors.NewBadRequest(err.Error())
	}
	home, err := w.Home(ctx, Apply, key)
	if err != nil {
		return nil, nil, err
	}
	if home == w.Node {
		return w.Local.Apply(ctx, o, opts)
	}
	in := write{Verb: Apply, Key: key.String(), Write: opts}
	return w.change(ctx, home, key, o, in)
}

// ApplyStatus implements api.Writer.
func (w *Writer) ApplyStatus(ctx context.Context, p *v1.Pod, opts api.WriteOptions) (view.Object, error) {
	key, err := manifests.KeyOf(p)
	if err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	home, err := w.Home(ctx, ApplyStatus, key)
	if err != nil {
		return nil, err
	}
	if home == w.Node {
		return w.Local.ApplyStatus(ctx, p, opts)
	}
	o, _, err := w.change(ctx, home, key, p, write{Verb: ApplyStatus, Key: key.String(), Write: opts})
	return o, err
}

// change has another node make the object so, if it has what o was made from.
func (w *Writer) change(ctx context.Context, home string, key manifests.Key, o view.Object, in write) (view.Object, []string, error) {
	old, exists := w.View.Get(key)
	switch rv := o.GetResourceVersion(); {
	case exists && rv != "" && rv != old.GetResourceVersion():
		return nil, nil, modified(key)
	case !exists && rv != "":
		return nil, nil, apierrors.NewNotFound(resourceOf(key), key.Name)
	case exists && rv != "":
		in.Saw = digest(old, in.Verb)
	}
	var err error
	if in.Object, err = encode(o); err != nil {
		return nil, nil, apierrors.NewInternalError(err)
	}
	out, err := w.send(ctx, home, in)
	if err != nil {
		return nil, nil, err
	}
	if out.Refused != nil {
		if out.Has != "" && out.Has != in.Saw { // who tries again is to see what is there
			w.await(ctx, key, time.Second, func(now view.Object) bool { return digest(now, in.Verb) != in.Saw })
		}
		return nil, nil, out.Refused.error()
	}
	result, err := decode(out.Object)
	if err != nil {
		return nil, nil, apierrors.NewInternalError(fmt.Errorf("node %s: %w", home, err))
	}
	if in.Write.DryRun {
		result.SetResourceVersion(o.GetResourceVersion())
		return result, out.Warnings, nil
	}
	wrote := digest(result, in.Verb)
	now, seen := w.await(ctx, key, seenHere, func(now view.Object) bool {
		// Or what somebody has made of it since.
		d := digest(now, in.Verb)
		return d == wrote || now != nil && d != in.Saw && now.GetUID() == result.GetUID()
	})
	if !seen {
		return result, append(out.Warnings, w.unseen(home)), nil
	}
	return now, out.Warnings, nil
}

func (w *Writer) unseen(home string) string {
	return fmt.Sprintf("node %s has written it, and node %s has not heard of it yet", home, w.Node)
}

// Delete implements api.Writer.
func (w *Writer) Delete(ctx context.Context, key manifests.Key, opts api.DeleteOptions) (view.Object, []string, error) {
	home, err := w.Home(ctx, Delete, key)
	if err != nil {
		return nil, nil, err
	}
	if home == w.Node {
		return w.Local.Delete(ctx, key, opts)
	}
	in := write{Verb: Delete, Key: key.String(), Delete: opts}
	if rv := opts.Preconditions.ResourceVersion; rv != nil {
		old, exists := w.View.Get(key)
		if !exists {
			return nil, nil, apierrors.NewNotFound(resourceOf(key), key.Name)
		}
		if *rv != old.GetResourceVersion() {
			return nil, nil, modified(key)
		}
		in.Saw, in.Delete.Preconditions.ResourceVersion = digest(old, Delete), nil
	}
	out, err := w.send(ctx, home, in)
	if err != nil {
		return nil, nil, err
	}
	if out.Refused != nil {
		return nil, nil, out.Refused.error()
	}
	result, err := decode(out.Object)
	if err != nil {
		return nil, nil, apierrors.NewInternalError(fmt.Errorf("node %s: %w", home, err))
	}
	if opts.DryRun {
		return result, out.Warnings, nil
	}
	now, seen := w.await(ctx, key, seenHere, func(now view.Object) bool {
		return now == nil || now.GetUID() != result.GetUID() || now.GetDeletionTimestamp() != nil
	})
	if seen && now != nil && now.GetUID() == result.GetUID() {
		return now, out.Warnings, nil
	}
	return result, out.Warnings, nil
}

// await waits until this node's view of an object is as it should be; nil is
// that there is none.
func (w *Writer) await(ctx context.Context, key manifests.Key, most time.Duration, is func(view.Object) bool) (view.Object, bool) {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	for {
		changed := w.View.Changed()
		now, exists := w.View.Get(key)
		if !exists {
			now = nil
		}
		if is(now) {
			return now, true
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, false
		}
	}
}

// send has a node carry a write out.
func (w *Writer) send(ctx context.Context, home string, in write) (out outcome, err error) {
	ctx, cancel := context.WithTimeout(ctx, carriedOut)
	defer cancel()
	b, err := json.Marshal(in)
	if err != nil {
		return out, apierrors.NewInternalError(err)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+home+Path, bytes.NewReader(b))
	if err != nil {
		return out, apierrors.NewInternalError(err)
	}
	r.Header.Set("Content-Type", "application/json")
	resp, err := w.Nodes.RoundTrip(home, r)
	if err != nil {
		return out, w.unreachable(home, in, err)
	}
	defer resp.Body.Close()
	b, err = io.ReadAll(io.LimitReader(resp.Body, mostBody))
	switch {
	case err != nil:
		return out, w.unreachable(home, in, err)
	case resp.StatusCode != http.StatusOK:
		return out, apierrors.NewServiceUnavailable(fmt.Sprintf("node %s, which is to write %s, does not: %s: %.300s", home, in.name(), resp.Status, bytes.TrimSpace(b)))
	}
	if err := json.Unmarshal(b, &out); err != nil {
		return out, apierrors.NewInternalError(fmt.Errorf("node %s: answer to a write: %w", home, err))
	}
	return out, nil
}

// unreachable tells whether the write may have been done all the same.
func (w *Writer) unreachable(home string, in write, err error) error {
	switch {
	case !w.Unsent(err):
		return apierrors.NewTimeoutError(fmt.Sprintf("node %s, which was to write %s, broke off: %v. It is not known whether it wrote: look before you try again", home, in.name(), err), 0)
	case in.key().GroupKind() == nodeKind:
		return apierrors.NewServiceUnavailable(fmt.Sprintf("node %s can't be reached: %v. Nothing was written; once the node is seen to be lost, another one keeps what is set of it", home, err))
	}
	return apierrors.NewServiceUnavailable(fmt.Sprintf("node %s, which is to write %s, can't be reached: %v. Nothing was written; "+
		"once the node is seen to be lost, another one decides", home, in.name(), err))
}

var nodeKind = schema.GroupKind{Kind: "Node"}

func modified(key manifests.Key) error {
	return apierrors.NewConflict(resourceOf(key), key.Name, errors.New("the object has been modified; please apply your changes to the latest version and try again"))
}

var _ api.Writer = (*Writer)(nil)
