package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"syscall"
	"time"

	"golang.org/x/net/proxy"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/util/httpstream/spdy"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/client-go/transport/websocket"

	"github.com/shoal-project/shoal/daemon/api"
)

// node is shoald on this host. It is what kubectl's commands take for their
// configuration (genericclioptions.RESTClientGetter); ~/.kube is never read.
type node struct {
	socket, namespace string
	cached            discovery.CachedDiscoveryInterface
}

// host stands in URLs and Host headers; nothing looks it up.
const host = "http://shoal"

func (n *node) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "unix", n.socket)
}

// reachable says in one line why the daemon cannot be had.
func (n *node) reachable() error {
	c, err := net.DialTimeout("unix", n.socket, 5*time.Second)
	switch {
	case err == nil:
		return c.Close()
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("shoald is not running (no %s): systemctl start shoald", n.socket)
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("shoald is not running (nobody listens on %s): systemctl start shoald", n.socket)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("no permission to use %s: use sudo, or become a member of the group %s (which is as good as root)", n.socket, api.Group)
	}
	return fmt.Errorf("connect to shoald: %w", err)
}

// client is for what is not a Kubernetes object.
func (n *node) client() *http.Client {
	return &http.Client{Transport: &http.Transport{DialContext: n.dial}}
}

// ToRESTConfig is how to reach the node.
func (n *node) ToRESTConfig() (*rest.Config, error) {
	return &rest.Config{
		Host: host, Dial: n.dial, WrapTransport: n.upgrades, QPS: -1,
		UserAgent: rest.DefaultKubernetesUserAgent(),
	}, nil
}

// upgrades points exec's connections at the socket: they do not use Dial.
func (n *node) upgrades(rt http.RoundTripper) http.RoundTripper {
	switch t := rt.(type) {
	case *websocket.RoundTripper:
		// The only way in is a proxy of a scheme of our own, see registerDialer.
		t.Proxier = func(*http.Request) (*url.URL, error) { return &url.URL{Scheme: unixScheme, Path: n.socket}, nil }
	case *spdy.SpdyRoundTripper:
		over, err := spdy.NewRoundTripperWithConfig(spdy.RoundTripperConfig{UpgradeTransport: &http.Transport{DialContext: n.dial}})
		if err == nil {
			*t = *over // the caller keeps t to take the connection from
		}
	}
	return rt
}

const unixScheme = "shoal+unix"

func init() {
	proxy.RegisterDialerType(unixScheme, func(u *url.URL, _ proxy.Dialer) (proxy.Dialer, error) {
		return &node{socket: u.Path}, nil
	})
}

// Dial is for golang.org/x/net/proxy.
func (n *node) Dial(network, addr string) (net.Conn, error) {
	return n.dial(context.Background(), network, addr)
}

// DialContext is for golang.org/x/net/proxy.
func (n *node) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	return n.dial(ctx, network, addr)
}

// ToDiscoveryClient remembers what the node serves for as long as the command
// runs: asking takes a millisecond, a cache on disk could be out of date.
func (n *node) ToDiscoveryClient() (discovery.CachedDiscoveryInterface, error) {
	if n.cached != nil {
		return n.cached, nil
	}
	config, err := n.ToRESTConfig()
	if err != nil {
		return nil, err
	}
	c, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return nil, err
	}
	n.cached = memory.NewMemCacheClient(c)
	return n.cached, nil
}

// ToRESTMapper knows short names: po, cm, deploy.
func (n *node) ToRESTMapper() (meta.RESTMapper, error) {
	c, err := n.ToDiscoveryClient()
	if err != nil {
		return nil, err
	}
	return restmapper.NewShortcutExpander(restmapper.NewDeferredDiscoveryRESTMapper(c), c, nil), nil
}

// ToRawKubeConfigLoader is a configuration of one context.
func (n *node) ToRawKubeConfigLoader() clientcmd.ClientConfig {
	const name = "shoal"
	config := clientcmdapi.NewConfig()
	config.Clusters[name] = &clientcmdapi.Cluster{Server: host}
	config.Contexts[name] = &clientcmdapi.Context{Cluster: name, Namespace: n.namespace}
	config.CurrentContext = name
	return static{clientcmd.NewDefaultClientConfig(*config, &clientcmd.ConfigOverrides{}), n}
}

// static is a configuration whose namespace counts as given on the command
// line where it was.
type static struct {
	loader
	node *node
}

// loader lets static have a method of its interface's name.
type loader = clientcmd.ClientConfig

// ClientConfig is ToRESTConfig: the loader knows no socket.
func (s static) ClientConfig() (*rest.Config, error) { return s.node.ToRESTConfig() }

// Namespace is -n; whether objects of another one are refused (enforced) is
// decided by whether it was given.
func (s static) Namespace() (string, bool, error) {
	return s.node.namespace, s.node.namespace != "default", nil
}
