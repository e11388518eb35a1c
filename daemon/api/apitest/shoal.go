package apitest

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/shoal-project/shoal/daemon/api"
)

// Shoal answers with what it is given. Any image can be pulled, but "missing".
type Shoal struct {
	Sources  api.ManifestList
	State    api.Status
	Plans    api.PlanList
	Planned  api.PlanRequest // the last
	Lookup   api.DNSLookup
	LookedUp api.DNSRequest

	mu     sync.Mutex
	images []api.Image
	Loaded int64 // bytes of the last archive
}

// Manifests implements api.Shoal.
func (s *Shoal) Manifests(context.Context) (api.ManifestList, error) { return s.Sources, nil }

// Status implements api.Shoal.
func (s *Shoal) Status(context.Context) (api.Status, error) { return s.State, nil }

// Images implements api.Shoal.
func (s *Shoal) Images(context.Context) ([]api.Image, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.images), nil
}

// PullImage implements api.Shoal.
func (s *Shoal) PullImage(_ context.Context, ref string, progress func(api.Progress)) (api.Image, error) {
	if ref == "missing" {
		return api.Image{}, errors.New("pull missing: not found")
	}
	progress(api.Progress{Part: "0123abcd", Phase: "pulling", Done: 500, Total: 1000})
	progress(api.Progress{Part: "0123abcd", Phase: "done", Done: 1000, Total: 1000})
	return s.add(ref, 1000), nil
}

// LoadImage implements api.Shoal.
func (s *Shoal) LoadImage(_ context.Context, archive io.Reader, progress func(api.Progress)) ([]api.Image, error) {
	buf := make([]byte, 64<<10)
	var n int64
	for {
		k, err := archive.Read(buf)
		n += int64(k)
		progress(api.Progress{Part: "archive", Phase: "unpacking", Done: n})
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
	}
	s.mu.Lock()
	s.Loaded = n
	s.mu.Unlock()
	return []api.Image{s.add("loaded:latest", n)}, nil
}

// RemoveImage implements api.Shoal.
func (s *Shoal) RemoveImage(_ context.Context, ref string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, image := range s.images {
		if slices.Contains(image.Names, ref) {
			s.images = slices.Delete(s.images, i, i+1)
			return nil
		}
	}
	return api.NoSuchImage(ref)
}

func (s *Shoal) add(ref string, size int64) api.Image {
	s.mu.Lock()
	defer s.mu.Unlock()
	image := api.Image{ID: "sha256:feedfacecafebeef", Names: []string{ref}, Size: size}
	s.images = append(s.images, image)
	return image
}

// Members implements api.Shoal: a host alone.
func (s *Shoal) Members(context.Context) (api.MemberList, error) {
	return api.MemberList{Members: []api.Member{{Name: "n1", Self: true, Status: "alive", Ready: true}}}, nil
}

// ForgetMember implements api.Shoal.
func (s *Shoal) ForgetMember(_ context.Context, name string) error {
	return apierrors.NewNotFound(schema.GroupResource{Resource: "nodes"}, name)
}

// Join implements api.Shoal.
func (s *Shoal) Join(context.Context, []string) error {
	return apierrors.NewBadRequest("no cluster key")
}

// Leave implements api.Shoal.
func (s *Shoal) Leave(context.Context) error {
	return apierrors.NewBadRequest("this host is with no others")
}

// Plan implements api.Shoal.
func (s *Shoal) Plan(_ context.Context, q api.PlanRequest) (api.PlanList, error) {
	s.Planned = q
	return s.Plans, nil
}

// LookUp implements api.Shoal.
func (s *Shoal) LookUp(_ context.Context, q api.DNSRequest) (api.DNSLookup, error) {
	s.LookedUp = q
	return s.Lookup, nil
}

// RotateKey implements api.Shoal.
func (s *Shoal) RotateKey(_ context.Context, finish bool, say func(string)) error {
	if finish {
		return apierrors.NewBadRequest("no rotation is under way")
	}
	say("n1: made key 0123")
	return nil
}
