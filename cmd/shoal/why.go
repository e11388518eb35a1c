package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/client-go/kubernetes"

	"github.com/shoal-project/shoal/daemon/api"
	"github.com/shoal-project/shoal/daemon/cure"
)

func newWhy(n *node, streams genericiooptions.IOStreams) *cobra.Command {
	return &cobra.Command{
		Use: "why [POD | node NODE]", Short: "Say why a pod does not run or is not ready, or how a node is, and what to do", Args: cobra.MaximumNArgs(2),
		Long: `Say why a pod does not run or is not ready, and what to do: from its status, its events and what its containers wrote last.

Without a name: all pods that are not well, of all namespaces or that of --namespace, and all files that are wrong.`,
		Example: `  shoal why web
  shoal why -n shop db-0
  shoal why node n2`,
		RunE: func(cmd *cobra.Command, args []string) error {
			config, err := n.ToRESTConfig()
			if err != nil {
				return err
			}
			client, err := kubernetes.NewForConfig(config)
			if err != nil {
				return err
			}
			w := asker{n, client, streams.Out}
			if len(args) == 0 {
				namespace := metav1.NamespaceAll
				if cmd.Flags().Changed("namespace") {
					namespace = n.namespace
				}
				return w.all(cmd.Context(), namespace)
			}
			if name, is := nodeName(args); is {
				return w.host(cmd.Context(), name)
			}
			name, err := podName(args)
			if err != nil {
				return err
			}
			return w.one(cmd.Context(), n.namespace, name)
		},
	}
}

// podName is the name in "web", "pod/web" or "pods/web".
func podName(args []string) (string, error) {
	given := strings.Join(args, "/")
	kind, name, ok := strings.Cut(given, "/")
	if !ok {
		return given, nil
	}
	if kind != "pod" && kind != "pods" && kind != "po" || name == "" {
		return "", fmt.Errorf("%q is no pod: name one (shoal get pods), or node NODE, or give no name to hear of all", given)
	}
	return name, nil
}

// asker finds out what cure.Why wants to know.
type asker struct {
	node   *node
	client kubernetes.Interface
	out    io.Writer
}

func (w asker) one(ctx context.Context, namespace, name string) error {
	p, err := w.client.CoreV1().Pods(namespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return w.absent(ctx, name, err)
	}
	if err != nil {
		return err
	}
	return w.explain(ctx, p)
}

// absent adds to notFound where a pod of that name is, and which files are wrong: it may be declared in one of them.
func (w asker) absent(ctx context.Context, name string, notFound error) error {
	same, err := w.client.CoreV1().Pods("").List(ctx, metav1.ListOptions{FieldSelector: fields.OneTermEqualSelector("metadata.name", name).String()})
	if err != nil {
		return err
	}
	var more []string
	for _, p := range same.Items {
		more = append(more, fmt.Sprintf("there is one in namespace %s: shoal why -n %s %s", p.Namespace, p.Namespace, p.Name))
	}
	wrong, err := w.wrongFiles(ctx)
	if err != nil {
		return err
	}
	if wrong != "" {
		more = append(more, "these files are wrong:\n"+strings.TrimSuffix(wrong, "\n"))
	}
	if more == nil {
		return notFound
	}
	return fmt.Errorf("%w; %s", notFound, strings.Join(more, "; "))
}

func (w asker) all(ctx context.Context, namespace string) error {
	pods, err := w.client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	told := 0
	for i := range pods.Items {
		p := &pods.Items[i]
		if !unwell(p) {
			continue
		}
		if told > 0 {
			fmt.Fprintln(w.out)
		}
		if err := w.explain(ctx, p); err != nil {
			return err
		}
		told++
	}
	wrong, err := w.wrongFiles(ctx)
	switch {
	case err != nil:
		return err
	case wrong != "":
		if told > 0 {
			fmt.Fprintln(w.out)
		}
		fmt.Fprintf(w.out, "files that are wrong, and change nothing until they are mended:\n%s", wrong)
	case told == 0:
		fmt.Fprintf(w.out, "%s: all well\n", count(len(pods.Items), "pod"))
	}
	return nil
}

// unwell says whether there is something to explain about a pod.
func unwell(p *v1.Pod) bool {
	if p.Status.Phase == v1.PodSucceeded {
		return false
	}
	for _, c := range p.Status.Conditions {
		if c.Type == v1.PodReady {
			return c.Status != v1.ConditionTrue
		}
	}
	return true
}

func (w asker) explain(ctx context.Context, p *v1.Pod) error {
	if cure.IsLost(p) {
		h, err := w.see(ctx, p.Spec.NodeName)
		if err == nil {
			_, err = io.WriteString(w.out, cure.Lost(p, h))
		}
		return err
	}
	about := fields.Set{"involvedObject.kind": "Pod", "involvedObject.name": p.Name}
	events, err := w.client.CoreV1().Events(p.Namespace).List(ctx, metav1.ListOptions{FieldSelector: about.String()})
	if err != nil {
		return err
	}
	output := make(map[string][]string)
	for _, list := range [][]v1.ContainerStatus{p.Status.InitContainerStatuses, p.Status.ContainerStatuses} {
		for i := range list {
			if c := &list[i]; !cure.Well(c) {
				output[c.Name] = w.tail(ctx, p, c)
			}
		}
	}
	_, err = io.WriteString(w.out, cure.Why(p, events.Items, output))
	return err
}

// longestTail is how much of a container's log is read, in bytes.
const longestTail = 64 << 10

// tail is what a container wrote last; nothing if it never ran, or its log is
// gone. Where the last lines are too long to be read, fewer are: a limit takes
// away the end, which tells the cause.
func (w asker) tail(ctx context.Context, p *v1.Pod, c *v1.ContainerStatus) []string {
	for _, lines := range []int64{20, 5, 1} {
		most := int64(longestTail)
		body, err := w.client.CoreV1().Pods(p.Namespace).GetLogs(p.Name, &v1.PodLogOptions{Container: c.Name, TailLines: &lines, LimitBytes: &most}).Stream(ctx)
		if err != nil {
			return nil
		}
		text, err := io.ReadAll(body)
		body.Close()
		if err != nil {
			return nil
		}
		if len(text) < longestTail || lines == 1 {
			return strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
		}
	}
	return nil
}

// wrongFiles are the problems of all files, one a line.
func (w asker) wrongFiles(ctx context.Context) (string, error) {
	list, err := fetch[api.ManifestList](ctx, w.node, "manifests")
	if err != nil {
		return "", err
	}
	var b strings.Builder
	for _, s := range list.Sources {
		for _, p := range s.Problems {
			fmt.Fprintf(&b, "  %s:%d:%d: %s%s%s\n", s.Path, p.Line, p.Column, field(p.Field), p.Message, meant(p.Suggestion))
		}
	}
	return b.String(), nil
}
