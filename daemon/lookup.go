package daemon

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/shoal-project/shoal/daemon/api"
	"github.com/shoal-project/shoal/dnsd"
	"github.com/shoal-project/shoal/manifests"
)

// LookUp takes the steps of a pod's resolver, with the pod's resolv.conf, and
// says why each was the last or not.
func (d *Daemon) LookUp(ctx context.Context, q api.DNSRequest) (l api.DNSLookup, err error) {
	server := d.host.dns.Load()
	if server == nil || d.host.network.now() == nil {
		return l, apierrors.NewServiceUnavailable("this host has no pod network, so nobody is answered here")
	}
	client, resolv := netip.IPv6Loopback(), dnsd.Resolv{}
	if q.Pod != "" {
		var p *v1.Pod
		if p, resolv, err = d.resolvOf(q.Namespace, q.Pod); err != nil {
			return l, err
		}
		if a, err := netip.ParseAddr(p.Status.PodIP); err == nil {
			client = a.Unmap()
		}
		l = d.asks(p, resolv)
		l.Completed = server.Completes(client)
	}
	for _, s := range server.Lookup(ctx, client, resolv, q.Name) {
		l.Steps = append(l.Steps, api.DNSStep{Name: s.Name, Code: s.Code, Source: s.Source, Records: s.Records, Found: s.Found, Why: s.Why})
	}
	return l, nil
}

// resolvOf is a pod and the resolv.conf that it has, which its own node alone
// knows.
func (d *Daemon) resolvOf(namespace, name string) (*v1.Pod, dnsd.Resolv, error) {
	o, _ := d.view.Get(manifests.Key{Kind: "Pod", Namespace: namespace, Name: name})
	p, ok := o.(*v1.Pod)
	switch {
	case !ok:
		return nil, dnsd.Resolv{}, apierrors.NewNotFound(schema.GroupResource{Resource: "pods"}, name)
	case p.Spec.NodeName == "":
		return nil, dnsd.Resolv{}, apierrors.NewBadRequest(fmt.Sprintf("pod %s has no node yet: shoal why %s", name, name))
	case p.Spec.NodeName != d.Config.Node:
		return nil, dnsd.Resolv{}, apierrors.NewBadRequest(fmt.Sprintf("pod %s runs on node %s, whose server it asks: run this there", name, p.Spec.NodeName))
	}
	resolv, err := d.host.readResolvOf(p)
	if err != nil {
		return nil, resolv, apierrors.NewBadRequest(fmt.Sprintf("pod %s has no resolv.conf: it does not run (shoal why %s)", name, name))
	}
	return p, resolv, nil
}

// asks is what a pod asks with, and whom.
func (d *Daemon) asks(p *v1.Pod, r dnsd.Resolv) api.DNSLookup {
	l := api.DNSLookup{Search: r.Searches, Options: r.Options}
	own := d.host.nameservers()
	for _, a := range r.Nameservers {
		l.Nameservers = append(l.Nameservers, a.String())
	}
	others := slices.DeleteFunc(slices.Clone(r.Nameservers), func(a netip.Addr) bool { return slices.Contains(own, a) })
	if len(others) > 0 {
		l.Note = fmt.Sprintf("by its dnsPolicy %s and dnsConfig the pod asks %s, not this node's server alone, and may hear otherwise",
			p.Spec.DNSPolicy, strings.Join(l.Nameservers, ", "))
	}
	return l
}
