package conformance

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/tools/txtar"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"

	"github.com/shoal-project/shoal/packaging/testbed/bed"
)

// stories are the txtar files below testdata/dir, by their path there without the suffix.
func stories(dir string) (map[string]*txtar.Archive, error) {
	root := filepath.Join("testdata", dir)
	found := map[string]*txtar.Archive{}
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".txtar" {
			return err
		}
		name := strings.TrimSuffix(strings.TrimPrefix(path, root+"/"), ".txtar")
		found[name], err = txtar.ParseFile(path)
		return err
	})
	return found, err
}

// story is one archive being told to the host.
type story struct {
	host      *bed.Host
	watch     *watch
	namespace string
	file      string            // on the host
	pod       string            // the pod that facts are about if they name none: the first in the file
	uids      map[string]string // of pods, at the last "want"
}

// tell runs a story's sections in their order. What it made is gone afterwards.
func tell(t *testing.T, name string, archive *txtar.Archive) {
	h, w := onHost(t)
	s := &story{host: h, watch: w, namespace: strings.ToLower(strings.ReplaceAll(name, "/", "-")), uids: map[string]string{}}
	s.file = "/etc/shoal/manifests/" + s.namespace + ".json"
	t.Cleanup(func() {
		if _, err := h.Run(context.Background(), "rm", "-f", s.file); err != nil {
			t.Error(err)
		}
	})
	for i, section := range archive.Files {
		var err error
		switch section.Name {
		case "pods.yaml":
			err = s.write(t.Context(), section.Data)
		case "file.yaml":
			err = h.WriteFile(t.Context(), s.file, section.Data)
		case "validate":
			err = s.ask(t.Context(), "shoal validate "+s.file+" 2>&1 | sed \"s,^/etc/shoal/manifests/$NS.json:,,\"", string(section.Data))
		case "want":
			err = s.await(t.Context(), parseFacts(string(section.Data)))
		case "host":
			if i+1 == len(archive.Files) || archive.Files[i+1].Name != "says" {
				t.Fatal("a section host needs one called says behind it")
			}
			err = s.ask(t.Context(), string(section.Data), string(archive.Files[i+1].Data))
		case "says", "why":
		default:
			t.Fatalf("section %q means nothing", section.Name)
		}
		if err != nil {
			t.Fatalf("section %d (%s): %v", i+1, section.Name, err)
		}
	}
}

// write makes documents the story's file; no documents, no file.
func (s *story) write(ctx context.Context, documents []byte) error {
	objects, err := decode(documents)
	if err != nil {
		return err
	}
	if len(objects) == 0 { // s.pod stays: what follows asks about the pod that was there
		_, err := s.host.Run(ctx, "rm", "-f", s.file)
		return err
	}
	s.pod = ""
	for _, o := range objects {
		meta := o["metadata"].(map[string]any)
		if o["kind"] == "Pod" && s.pod == "" {
			s.pod = meta["name"].(string)
		}
		if o["kind"] != "RuntimeClass" { // which is in none
			meta["namespace"] = s.namespace
		}
	}
	text, err := json.Marshal(map[string]any{"apiVersion": "v1", "kind": "List", "items": objects})
	if err != nil {
		return err
	}
	return s.host.WriteFile(ctx, s.file, text)
}

// decode takes a file of YAML documents apart.
func decode(documents []byte) ([]map[string]any, error) {
	var objects []map[string]any
	for d := utilyaml.NewYAMLOrJSONDecoder(bytes.NewReader(documents), 4096); ; {
		var o map[string]any
		switch err := d.Decode(&o); {
		case errors.Is(err, io.EOF):
			return objects, nil
		case err != nil:
			return nil, err
		case o != nil:
			objects = append(objects, o)
		}
	}
}

// await waits until all facts hold at once.
func (s *story) await(ctx context.Context, facts []fact) error {
	err := s.watch.until(ctx, func() (missing string, never bool) {
		var wrong []string
		for _, f := range facts {
			if got, ok := s.holds(f); !ok {
				wrong = append(wrong, fmt.Sprintf("%s: got %q, want %q", f.key, got, f.value))
				never = never || s.settled(f)
			}
		}
		return strings.Join(wrong, "\n"), never
	})
	s.watch.mu.Lock()
	defer s.watch.mu.Unlock()
	if err != nil {
		return fmt.Errorf("%w\n%s", err, s.dump())
	}
	for key, p := range s.watch.pods {
		if p.Namespace == s.namespace {
			s.uids[key] = string(p.UID)
		}
	}
	return nil
}

// settled says that a fact which does not hold never will: the pod is over, and nobody has edited or deleted it yet.
func (s *story) settled(f fact) bool {
	p := s.watch.pods[s.key(f)]
	return len(s.uids) == 0 && p != nil && p.DeletionTimestamp == nil && f.key != "exists" && !strings.HasPrefix(f.key, "event ") &&
		(p.Status.Phase == v1.PodSucceeded || p.Status.Phase == v1.PodFailed)
}

// dump is what the host says of the story's pods, for a failure's text.
func (s *story) dump() string {
	var b strings.Builder
	for key, p := range s.watch.pods {
		if p.Namespace == s.namespace {
			status, _ := json.Marshal(p.Status)
			fmt.Fprintf(&b, "%s: %s\n", key, status)
		}
	}
	for _, e := range s.watch.events[s.namespace] {
		fmt.Fprintf(&b, "event %s: %s\n", e.Reason, e.Message)
	}
	return b.String()
}

// ask runs a script on the host until it prints want.
func (s *story) ask(ctx context.Context, script, want string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	s.watch.mu.Lock()
	p := s.watch.pods[s.namespace+"/"+s.pod]
	if p == nil {
		p = &v1.Pod{}
		p.UID = types.UID(s.uids[s.namespace+"/"+s.pod]) // of one that is gone
	}
	s.watch.mu.Unlock()
	set := fmt.Sprintf("NS=%s POD=%s UID_=%s POD_IP=%s HOST_IP=%s\n", s.namespace, s.pod, p.UID, p.Status.PodIP, p.Status.HostIP)
	want = strings.TrimSpace(expand(want, p))
	var last bed.Result
	for {
		result, err := s.host.Exec(ctx, nil, "sh", "-uc", set+script)
		if ctx.Err() != nil {
			return fmt.Errorf("printed %q, want %q; exit code %d, %s", last.Stdout, want, last.Exit, last.Stderr)
		}
		if err != nil {
			return err
		}
		last = result
		if matches(strings.TrimSpace(result.Stdout), want) {
			return nil
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// expand puts what only the running pod knows into an expected text.
func expand(text string, p *v1.Pod) string {
	return strings.NewReplacer("$POD_IP", p.Status.PodIP, "$HOST_IP", p.Status.HostIP, "$UID", string(p.UID),
		"$NODE", p.Spec.NodeName).Replace(text)
}

// matches compares with an expected text: /a regular expression/, or all of it, where ... stands for anything.
func matches(got, want string) bool {
	if strings.Contains(want, "...") {
		parts := strings.Split(want, "...")
		for i, part := range parts {
			parts[i] = regexp.QuoteMeta(part)
		}
		return regexp.MustCompile("(?s)^" + strings.Join(parts, ".*") + "$").MatchString(got)
	}
	if len(want) > 1 && strings.HasPrefix(want, "/") && strings.HasSuffix(want, "/") {
		return regexp.MustCompile("(?s)^(" + want[1:len(want)-1] + ")$").MatchString(got)
	}
	return got == want
}
