package agent

import (
	"fmt"
	"os"
	"strings"

	v1 "k8s.io/api/core/v1"
)

// hostsOfHost is the host's own /etc/hosts, for pods in its network.
func (a *Agent) hostsOfHost() string {
	data, err := os.ReadFile("/etc/hosts")
	if err != nil {
		return "127.0.0.1\tlocalhost\n"
	}
	return string(data)
}

// hostsFile is a pod's /etc/hosts, as the kubelet writes it
// (pkg/kubelet/kubelet_pods.go, managedHostsFileContent).
func hostsFile(p *v1.Pod, hostname, domain string, ips []string, ofHost func() string) string {
	var b strings.Builder
	b.WriteString("# Managed by shoald: a pod's own entries go into spec.hostAliases.\n")
	if p.Spec.HostNetwork {
		b.WriteString(ofHost())
	} else {
		b.WriteString("127.0.0.1\tlocalhost\n" +
			"::1\tlocalhost ip6-localhost ip6-loopback\n" +
			"fe00::\tip6-localnet\nff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n")
		for _, ip := range ips {
			name := hostname
			if p.Spec.Subdomain != "" && p.Spec.HostnameOverride == nil {
				name = qualified(p, hostname, domain) + "\t" + hostname
			}
			fmt.Fprintf(&b, "%s\t%s\n", ip, name)
		}
	}
	if len(p.Spec.HostAliases) > 0 {
		b.WriteString("\n# spec.hostAliases\n")
	}
	for _, alias := range p.Spec.HostAliases {
		fmt.Fprintf(&b, "%s\t%s\n", alias.IP, strings.Join(alias.Hostnames, "\t"))
	}
	return b.String()
}

// qualified is the whole name of a pod that has a subdomain.
func qualified(p *v1.Pod, hostname, domain string) string {
	return fmt.Sprintf("%s.%s.%s.svc.%s", hostname, p.Spec.Subdomain, p.Namespace, domain)
}
