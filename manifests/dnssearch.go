package manifests

import (
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// AnnotationDNSSearch says, on a pod or a pod template, who walks its search
// list: by default the node's DNS server, which answers the first question of a
// walk with what the walk comes to; with DNSSearchClient the pod's own resolver
// alone (docs/dns.md).
const (
	AnnotationDNSSearch = "shoal.io/dns-search"
	DNSSearchClient     = "client"
)

// dnsSearch says what is wrong with the annotation of that name.
func dnsSearch(obj runtime.Object) field.ErrorList {
	meta, at := podMetadata(obj)
	if meta == nil {
		return nil
	}
	value, has := meta.Annotations[AnnotationDNSSearch]
	if !has || value == DNSSearchClient {
		return nil
	}
	return field.ErrorList{field.NotSupported(at.Child("annotations").Key(AnnotationDNSSearch), value, []string{DNSSearchClient})}
}
