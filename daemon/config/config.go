// Package config reads /etc/shoal/shoal.toml.
//
// Every setting has a default that works for one host, so the file may be
// missing. A key that is not known is an error with its line: a typo must not
// silently leave a default in force.
package config

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/utils/cpuset"

	"github.com/shoal-project/shoal/daemon/nodelife"
)

// Path is where the configuration is read from unless told otherwise.
const Path = "/etc/shoal/shoal.toml"

// Config is the configuration with its defaults filled in.
type Config struct {
	// Node is this host's name in the cluster; default: its host name, lower
	// case, at the first start.
	Node string `toml:"node"`
	// NodeGiven says that the file names the node.
	NodeGiven bool `toml:"-"`
	// Domain is the cluster's DNS domain; default "cluster.local".
	Domain string `toml:"cluster_domain"`
	// Labels are added to the node object's.
	Labels map[string]string `toml:"labels"`
	// Join is where other hosts of the cluster may be: "host" or "host:port". It
	// may be the same on all of them. Default: none.
	Join []string `toml:"join"`

	Cluster    Cluster             `toml:"cluster"`
	Lease      Lease               `toml:"lease"`
	Network    Network             `toml:"network"`
	DNS        DNS                 `toml:"dns"`
	Runtime    Runtime             `toml:"runtime"`
	Registries map[string]Registry `toml:"registries"`
	Logs       Logs                `toml:"logs"`
	Metrics    Metrics             `toml:"metrics"`
	Security   Security            `toml:"security"`
	Images     Images              `toml:"images"`
	Pods       Pods                `toml:"pods"`
	Eviction   Eviction            `toml:"eviction"`
	CPU        CPU                 `toml:"cpu"`
	Memory     Memory              `toml:"memory"`
	Shutdown   Shutdown            `toml:"shutdown"`
	UserNS     UserNS              `toml:"userns"`
	Scheduler  Scheduler           `toml:"scheduler"`
}

// Runtime is what runs containers.
type Runtime struct {
	// OCI is the OCI runtime: "crun" (default), "runc", or a path.
	OCI string `toml:"oci"`
	// PodPidsLimit is the most processes and threads in one pod; default: no limit.
	PodPidsLimit int64 `toml:"pod_pids_limit"`
	// MaxPods is how many pods the node says it takes; default 110, as the kubelet's.
	MaxPods int64 `toml:"max_pods"`
	// SeccompDefault gives containers the RuntimeDefault profile unless the pod
	// names another; default false, as the kubelet's seccompDefault.
	SeccompDefault bool `toml:"seccomp_default"`
	// Handlers are the OCI runtimes that RuntimeClasses may name; default none
	// besides crun and runc.
	Handlers map[string]Handler `toml:"handlers"`
}

// Registry is how to talk to one image registry; the key is its host[:port].
type Registry struct {
	// PlainHTTP allows HTTP without TLS.
	PlainHTTP bool `toml:"plain_http"`
	// CAFile holds certificates that are trusted for this host.
	CAFile string `toml:"ca_file"`
	// Mirrors are asked first, in order: "https://HOST[:PORT][/PREFIX]", or
	// http:// for one without TLS.
	Mirrors []string `toml:"mirrors"`
}

// Logs is when container logs are rotated.
type Logs struct {
	// MaxSize of a log before it is rotated, a quantity; default "10Mi".
	MaxSize string `toml:"max_size"`
	// MaxFiles of each container; default 5.
	MaxFiles int `toml:"max_files"`

	MaxBytes int64 `toml:"-"` // MaxSize in bytes
}

// The values of CPU.Policy.
const (
	CPUNone   = "none"
	CPUStatic = "static"
)

// CPU is how processors are handed out, see daemon/cpuset.
type CPU struct {
	// Policy is "none" (default), or "static": containers of Guaranteed pods that
	// ask for whole CPUs have as many to themselves.
	Policy string `toml:"policy"`
	// Reserved are CPUs that nobody has to himself, "0-1,8"; default with the
	// static policy: those of the first core.
	Reserved string `toml:"reserved"`
	// FullPCPUsOnly gives whole physical cores only.
	FullPCPUsOnly bool `toml:"full_pcpus_only"`
	// StrictReservation keeps all pods off the reserved CPUs.
	StrictReservation bool `toml:"strict_reservation"`
}

// Memory is how memory is protected and throttled.
type Memory struct {
	// QoS protects requested memory and throttles before the limit (KEP-2570);
	// default false, as the kubelet's feature gate MemoryQoS.
	QoS bool `toml:"qos"`
	// ThrottlingFactor is how far between request and limit that begins; default
	// 0.9, as the kubelet's memoryThrottlingFactor.
	ThrottlingFactor float64 `toml:"throttling_factor"`
}

// Read reads the file at path. With a missing file all defaults are in force,
// unless it was asked for by name (required).
func Read(path string, required bool) (*Config, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) && !required {
		data, err = nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	hostname, err := os.Hostname()
	if err != nil {
		return nil, fmt.Errorf("find the host's name: %w", err)
	}
	return Parse(path, data, hostname)
}

// Parse reads the configuration from data; file names it in errors, and
// hostname is the default for node. All errors are reported at once.
func Parse(file string, data []byte, hostname string) (*Config, error) {
	c := &Config{Eviction: Eviction{Config: nodelife.Defaults()}} // zero means something there
	meta, err := toml.Decode(string(data), c)
	if err != nil {
		return nil, parseError(file, err)
	}
	var errs []error
	for _, key := range meta.Undecoded() {
		errs = append(errs, fmt.Errorf("%s:%d: unknown key %q%s", file, line(data, key), key, suggest(key)))
	}
	c.setDefaults(hostname)
	for _, err := range c.validate() {
		errs = append(errs, fmt.Errorf("%s: %w", file, err))
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return c, nil
}

func parseError(file string, err error) error {
	var p toml.ParseError
	if errors.As(err, &p) {
		return fmt.Errorf("%s:%d: %s", file, p.Position.Line, p.Message)
	}
	if m := typeError.FindStringSubmatch(err.Error()); m != nil {
		return fmt.Errorf("%s:%s: %s: %s", file, m[1], m[2], m[3])
	}
	return fmt.Errorf("%s: %w", file, err)
}

// typeError is the decoder's text for a value of the wrong type, which has no
// error type of its own.
var typeError = regexp.MustCompile(`^toml: line (\d+) \(last key "(.*)"\): (.*)$`)

// line is where a key stands: the decoder does not tell for keys it left out.
func line(data []byte, key toml.Key) int {
	last := regexp.QuoteMeta(key[len(key)-1])
	pattern := regexp.MustCompile(`^\s*(\[+\s*)?([\w"'.-]+\.)?["']?` + last + `["']?\s*(=|\.|\])`)
	for i, l := range strings.Split(string(data), "\n") {
		if pattern.MatchString(l) {
			return i + 1
		}
	}
	return 1
}

// suggest names the known key that a typo most likely meant.
func suggest(key toml.Key) string {
	last := strings.ToLower(strings.ReplaceAll(key[len(key)-1], "-", "_"))
	for _, known := range []string{
		"node", "cluster_domain", "labels", "join", "cluster", "key_file", "bind", "advertise", "gossip_port", "peer_port", "lease", "port", "bootstrap_expect", "always", "only_witness", "network", "dns", "runtime", "registries", "logs", "cluster_cidrs", "pod_cidrs", "node_mask_ipv4", "node_mask_ipv6", "backend", "wireguard_port", "masquerade_link_local", "bridge", "mtu",
		"non_masquerade_cidrs", "upstreams", "oci", "pod_pids_limit", "seccomp_default", "handlers", "plain_http", "ca_file", "mirrors",
		"max_size", "max_files", "metrics", "listen", "max_pods", "security", "allowed_unsafe_sysctls", "service_account_issuer",
		"max_size", "max_files", "images", "gc_high_percent", "gc_low_percent", "min_age", "max_age", "credential_providers",
		"credential_provider_dir", "pods", "ended_threshold",
		"eviction", "hard", "soft", "soft_grace_period", "minimum_reclaim", "max_pod_grace_period", "transition_period",
		"node_status_update_frequency", "node_monitor_period", "node_monitor_grace_period", "node_startup_grace_period", "pod_eviction_timeout",
		"node_eviction_rate", "secondary_node_eviction_rate", "unhealthy_zone_threshold", "large_cluster_size_threshold",
		"max_size", "max_files", "cpu", "memory", "policy", "reserved", "full_pcpus_only", "strict_reservation", "qos", "throttling_factor",
		"shutdown", "grace_period", "critical_grace_period", "by_priority", "scheduler", "scoring",
	} {
		if known == last || strings.TrimSuffix(known, "s") == strings.TrimSuffix(last, "s") ||
			len(last) > 3 && (strings.Contains(known, last) || strings.Contains(last, known)) {
			return fmt.Sprintf(" (did you mean %q?)", known)
		}
	}
	return ""
}

func (c *Config) setDefaults(hostname string) {
	if c.NodeGiven = c.Node != ""; !c.NodeGiven {
		c.Node = strings.ToLower(hostname)
	}
	if c.Domain == "" {
		c.Domain = "cluster.local"
	}
	c.Network.setDefaults()
	if c.Runtime.OCI == "" {
		c.Runtime.OCI = "crun"
	}
	c.Cluster.setDefaults()
	c.Lease.setDefaults()
	c.Images.setDefaults()
	c.Pods.setDefaults()
	if c.Security.ServiceAccountIssuer == "" {
		c.Security.ServiceAccountIssuer = "https://kubernetes.default.svc." + c.Domain
	}
	if c.Runtime.MaxPods == 0 {
		c.Runtime.MaxPods = 110
	}
	if c.Lease.OnlyWitness {
		c.RunNoPods()
	}
	c.Eviction.setDefaults()
	c.UserNS.setDefaults()
	c.Scheduler.setDefaults()
	if c.CPU.Policy == "" {
		c.CPU.Policy = CPUNone
	}
	if c.Memory.ThrottlingFactor == 0 {
		c.Memory.ThrottlingFactor = 0.9
	}
	if c.Logs.MaxSize == "" {
		c.Logs.MaxSize = "10Mi"
	}
	if c.Logs.MaxFiles == 0 {
		c.Logs.MaxFiles = 5
	}
}

func (c *Config) validate() []error {
	var errs []error
	bad := func(key, value, want string, args ...any) {
		errs = append(errs, fmt.Errorf("%s = %q: %s", key, value, fmt.Sprintf(want, args...)))
	}
	for _, msg := range validation.IsDNS1123Subdomain(c.Node) {
		bad("node", c.Node, "%s", msg)
	}
	for _, msg := range validation.IsDNS1123Subdomain(c.Domain) {
		bad("cluster_domain", c.Domain, "%s", msg)
	}
	for _, key := range slices.Sorted(maps.Keys(c.Labels)) {
		for _, msg := range slices.Concat(validation.IsQualifiedName(key), validation.IsValidLabelValue(c.Labels[key])) {
			bad("labels."+key, c.Labels[key], "%s", msg)
		}
	}
	q, err := resource.ParseQuantity(c.Logs.MaxSize)
	if c.Logs.MaxBytes = q.Value(); err != nil || c.Logs.MaxBytes < 1024 {
		bad("logs.max_size", c.Logs.MaxSize, `want a quantity of at least "1Ki", for example "10Mi"`)
	}
	if c.Logs.MaxFiles < 2 {
		bad("logs.max_files", fmt.Sprint(c.Logs.MaxFiles), "want at least 2")
	}
	if oci := c.Runtime.OCI; !validOCI(oci) {
		bad("runtime.oci", oci, `want "crun", "runc" or an absolute path`)
	}
	c.Runtime.validateHandlers(bad)
	if p := c.CPU.Policy; p != CPUNone && p != CPUStatic {
		bad("cpu.policy", p, `want "none" or "static"`)
	}
	if _, err := cpuset.Parse(c.CPU.Reserved); err != nil {
		bad("cpu.reserved", c.CPU.Reserved, `want a list of CPUs, for example "0-1,8"`)
	}
	if f := c.Memory.ThrottlingFactor; f <= 0 || f > 1 {
		bad("memory.throttling_factor", fmt.Sprint(f), "want a number above 0, at most 1")
	}
	if c.Runtime.PodPidsLimit < 0 {
		bad("runtime.pod_pids_limit", fmt.Sprint(c.Runtime.PodPidsLimit), "want a positive number")
	}
	errs = append(errs, c.Security.validate()...)
	c.Cluster.validate(c.Join, bad)
	c.Lease.validate(&c.Cluster, bad)
	c.Network.validate(bad)
	c.Images.validate(bad)
	c.Pods.validate(bad)
	if c.Runtime.MaxPods < 0 {
		bad("runtime.max_pods", fmt.Sprint(c.Runtime.MaxPods), "want a positive number")
	}
	c.Metrics.validate(bad)
	c.Shutdown.validate(bad)
	c.UserNS.validate(bad)
	c.Scheduler.validate(bad)
	if err := c.Eviction.validate(bad); err != nil {
		errs = append(errs, fmt.Errorf("eviction: %w", err))
	}
	c.DNS.validate(c.Domain, bad)
	for _, host := range slices.Sorted(maps.Keys(c.Registries)) {
		for _, m := range c.Registries[host].Mirrors {
			if u, err := url.Parse(m); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
				bad(fmt.Sprintf("registries.%q.mirrors", host), m, `want "https://HOST[:PORT][/PREFIX]" or http://...`)
			}
		}
	}
	return errs
}
