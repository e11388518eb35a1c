package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	v1 "k8s.io/api/core/v1"

	"github.com/shoal-project/shoal/daemon/cure"
	"github.com/shoal-project/shoal/daemon/image"
	"github.com/shoal-project/shoal/daemon/pod"
)

// image finds or pulls a container's image, as imagePullPolicy says (the
// kubelet's EnsureImageExists, pkg/kubelet/images/image_manager.go).
func (j job) image(ctx context.Context, c *v1.Container) (image.Image, error) {
	events, ref := j.w.agent.cfg.Events, reference(j.pod, c.Name)
	if !image.IsRootfs(c.Image) {
		if _, err := image.Normalize(c.Image); err != nil {
			err = fmt.Errorf("Failed to apply default image tag %q: %w", c.Image, err)
			events.Warning(ref, "InspectFailed", "%v", cure.Wrap(j.pod, c.Name, err))
			return image.Image{}, &failure{pod.InvalidImageName, err}
		}
	}
	img, err := j.present(c)
	if !errors.Is(err, errAlwaysPull) {
		switch {
		case err == nil:
			j.sayPresent(c)
			return img, nil
		case !errors.Is(err, image.ErrNotFound):
			err = fmt.Errorf("Failed to inspect image %q: %w", c.Image, err)
			events.Warning(ref, "InspectFailed", "%v", err)
			return image.Image{}, &failure{pod.ImageInspectError, err}
		case c.ImagePullPolicy == v1.PullNever:
			err = fmt.Errorf("Container image %q is not present with pull policy of Never", c.Image)
			events.Warning(ref, "ErrImageNeverPull", "%v", cure.Wrap(j.pod, c.Name, err))
			return image.Image{}, &failure{pod.ErrImageNeverPull, err}
		}
	}
	credentials, err := j.credentials(ctx)
	if err != nil {
		return image.Image{}, j.pullFailed(ctx, c, err)
	}
	events.Normal(ref, "Pulling", "Pulling image %q", c.Image)
	begin := j.w.agent.cfg.Now()
	done := j.w.agent.timed(tookPull)
	img, err = j.w.agent.cfg.Images.Pull(ctx, c.Image, image.PullOptions{Credentials: &credentials})
	done()
	if err != nil {
		return image.Image{}, j.pullFailed(ctx, c, err)
	}
	events.Normal(ref, "Pulled", "Successfully pulled image %q in %s. Image size: %d bytes.",
		c.Image, j.w.agent.cfg.Now().Sub(begin).Round(time.Millisecond), img.Size)
	return img, nil
}

// errAlwaysPull says that imagePullPolicy wants the registry asked.
var errAlwaysPull = errors.New("the image is always pulled")

// present is a container's image that is there and need not be pulled.
func (j job) present(c *v1.Container) (image.Image, error) {
	if c.ImagePullPolicy == v1.PullAlways && !image.IsRootfs(c.Image) {
		return image.Image{}, errAlwaysPull
	}
	return j.w.agent.cfg.Images.Get(c.Image)
}

func (j job) sayPresent(c *v1.Container) {
	j.w.agent.cfg.Events.Normal(reference(j.pod, c.Name), "Pulled", "Container image %q already present on machine", c.Image)
}

// pullFailed says that a pull failed, unless it was called off.
func (j job) pullFailed(ctx context.Context, c *v1.Container, err error) error {
	if ctx.Err() == nil {
		j.w.agent.cfg.Events.Warning(reference(j.pod, c.Name), "Failed", "Failed to pull image %q: %v", c.Image, cure.Wrap(j.pod, c.Name, err))
	}
	var lookup *net.DNSError
	if errors.Is(err, image.ErrUnreachable) && !(errors.As(err, &lookup) && lookup.IsNotFound) {
		return &failure{pod.RegistryUnavailable, fmt.Errorf("image pull failed for %s because the registry is unavailable: %w", c.Image, err)}
	}
	return &failure{pod.ErrImagePull, err} // a host name that does not exist is a wrong image name
}

// credentials are those that a pull may use: of the pod's imagePullSecrets
// first, then the node's. A secret that is missing is not an error, as with the
// kubelet: the image may be public.
func (j job) credentials(ctx context.Context) (image.Credentials, error) {
	var all image.Credentials
	for _, ref := range j.w.agent.cfg.PullSecrets(j.pod) {
		s, ok := j.w.agent.cfg.Objects.Secret(j.pod.Namespace, ref.Name)
		if !ok {
			said := fmt.Sprintf("Unable to retrieve some image pull secrets (%s); attempting to pull the image may not succeed.", ref.Name)
			j.w.agent.cfg.Events.Warning(reference(j.pod, ""), "FailedToRetrieveImagePullSecret", "%s", cure.Add(j.pod, "", said))
			continue
		}
		var err error
		switch s.Type {
		case v1.SecretTypeDockerConfigJson:
			err = all.AddDockerConfigJSON(s.Data[v1.DockerConfigJsonKey])
		case v1.SecretTypeDockercfg:
			err = all.AddDockerConfig(s.Data[v1.DockerConfigKey])
		}
		if err != nil {
			return all, fmt.Errorf("image pull secret %q: %w", ref.Name, err)
		}
	}
	all.AddFallback(func(repo string) []image.Login { return j.w.agent.cfg.NodeLogins(ctx, repo) })
	return all, nil
}
