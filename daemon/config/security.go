package config

import (
	"fmt"
	"net/url"

	"k8s.io/component-helpers/node/util/sysctl"
	policyvalidation "k8s.io/kubernetes/pkg/apis/policy/validation"
)

// Security is what pods may do on this host.
type Security struct {
	// AllowedUnsafeSysctls may be set by pods besides the safe ones: names, or
	// prefixes that end in "*" (the kubelet's allowedUnsafeSysctls); default none.
	AllowedUnsafeSysctls []string `toml:"allowed_unsafe_sysctls"`
	// ServiceAccountIssuer is who service accounts' tokens say they are from, and
	// the audience of those that ask for no other: an https URL that those who
	// check tokens know this host by; default
	// "https://kubernetes.default.svc.CLUSTER_DOMAIN".
	ServiceAccountIssuer string `toml:"service_account_issuer"`
}

func (s Security) validate() []error {
	var errs []error
	for _, pattern := range s.AllowedUnsafeSysctls {
		if !policyvalidation.IsValidSysctlPattern(pattern) {
			errs = append(errs, fmt.Errorf(`security.allowed_unsafe_sysctls = %q: want a sysctl's name, or a prefix of one with "*" at the end: "net.core.*"`, pattern))
		} else if ns, _, _ := sysctl.GetNamespace(pattern); ns == sysctl.UnknownNamespace {
			errs = append(errs, fmt.Errorf("security.allowed_unsafe_sysctls = %q: pods have no namespace of their own for it, so it would change the host: "+
				"want one of kernel.shm*, kernel.msg*, kernel.sem, fs.mqueue.* or net.*", pattern))
		}
	}
	if u, err := url.Parse(s.ServiceAccountIssuer); err != nil || u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
		errs = append(errs, fmt.Errorf(`security.service_account_issuer = %q: want "https://HOST[/PATH]" (OpenID Connect Discovery, issuer)`, s.ServiceAccountIssuer))
	}
	return errs
}
