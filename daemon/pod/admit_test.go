package pod

import (
	"testing"

	v1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

func TestANodeRefusesWhatItsRulesForbid(t *testing.T) {
	enabled := Rules{AppArmor: true}
	for name, tt := range map[string]struct {
		rules Rules
		pod   string
		want  string
	}{
		"safe":                       {enabled, `{spec: {securityContext: {sysctls: [{name: net.ipv4.tcp_syncookies, value: "0"}]}}}`, ""},
		"safe with slashes":          {enabled, `{spec: {securityContext: {sysctls: [{name: net/ipv4/tcp_syncookies, value: "0"}]}}}`, ""},
		"unsafe":                     {enabled, `{spec: {securityContext: {sysctls: [{name: kernel.msgmax, value: "1"}]}}}`, `SysctlForbidden: forbidden sysctl: "kernel.msgmax" not allowlisted`},
		"allowed by name":            {Rules{UnsafeSysctls: []string{"kernel.msgmax"}}, `{spec: {securityContext: {sysctls: [{name: kernel.msgmax, value: "1"}]}}}`, ""},
		"allowed by prefix":          {Rules{UnsafeSysctls: []string{"net.core.*"}}, `{spec: {securityContext: {sysctls: [{name: net.core.somaxconn, value: "1"}]}}}`, ""},
		"a name is no prefix":        {Rules{UnsafeSysctls: []string{"net.core.so"}}, `{spec: {securityContext: {sysctls: [{name: net.core.somaxconn, value: "1"}]}}}`, `SysctlForbidden: forbidden sysctl: "net.core.somaxconn" not allowlisted`},
		"host network":               {enabled, `{spec: {hostNetwork: true, securityContext: {sysctls: [{name: net.ipv4.tcp_syncookies, value: "0"}]}}}`, `SysctlForbidden: forbidden sysctl: "net.ipv4.tcp_syncookies" not allowed with host Net enabled`},
		"host ipc":                   {enabled, `{spec: {hostIPC: true, securityContext: {sysctls: [{name: kernel.shm_rmid_forced, value: "1"}]}}}`, `SysctlForbidden: forbidden sysctl: "kernel.shm_rmid_forced" not allowed with host IPC enabled`},
		"ipc and host network":       {enabled, `{spec: {hostNetwork: true, securityContext: {sysctls: [{name: kernel.shm_rmid_forced, value: "1"}]}}}`, ""},
		"no profile, no AppArmor":    {Rules{}, `{spec: {containers: [{name: c}]}}`, ""},
		"unconfined, no AppArmor":    {Rules{}, `{spec: {containers: [{name: c, securityContext: {appArmorProfile: {type: Unconfined}}}]}}`, ""},
		"default, no AppArmor":       {Rules{}, `{spec: {containers: [{name: c, securityContext: {appArmorProfile: {type: RuntimeDefault}}}]}}`, "AppArmor: Cannot enforce AppArmor: AppArmor is not enabled on the host"},
		"local, no AppArmor":         {Rules{}, `{spec: {securityContext: {appArmorProfile: {type: Localhost, localhostProfile: x}}, containers: [{name: c}]}}`, "AppArmor: Cannot enforce AppArmor: AppArmor is not enabled on the host"},
		"annotation, no AppArmor":    {Rules{}, `{metadata: {annotations: {container.apparmor.security.beta.kubernetes.io/c: localhost/x}}, spec: {initContainers: [{name: c}]}}`, "AppArmor: Cannot enforce AppArmor: AppArmor is not enabled on the host"},
		"the container's own counts": {Rules{}, `{metadata: {annotations: {container.apparmor.security.beta.kubernetes.io/c: localhost/x}}, spec: {containers: [{name: c, securityContext: {appArmorProfile: {type: Unconfined}}}]}}`, ""},
		"local":                      {enabled, `{spec: {securityContext: {appArmorProfile: {type: Localhost, localhostProfile: x}}, containers: [{name: c}]}}`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			p := &v1.Pod{}
			if err := yaml.UnmarshalStrict([]byte(tt.pod), p); err != nil {
				t.Fatal(err)
			}
			got := ""
			if r := Admit(p, tt.rules); r != nil {
				got = r.Reason + ": " + r.Message
			}
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestARefusedPodFailsAndStaysSo(t *testing.T) {
	p := &v1.Pod{Spec: v1.PodSpec{Containers: []v1.Container{{Name: "c"}}}, Status: v1.PodStatus{Phase: v1.PodPending}}
	first := Decide(p, Observed{Rejected: &Rejection{"SysctlForbidden", "forbidden sysctl: no"}}, epoch)
	if len(first.Do) > 0 || !first.Ends || first.Status.Phase != v1.PodFailed || first.Status.Reason != "SysctlForbidden" ||
		first.Status.Message != "Pod was rejected: forbidden sysctl: no" || first.Status.ContainerStatuses != nil {
		t.Errorf("got %+v", first)
	}
	p.Status = first.Status
	if after := Decide(p, Observed{}, epoch); len(after.Do) > 0 || !after.Ends || after.Status.Message != first.Status.Message {
		t.Errorf("after a restart: got %+v", after)
	}
	p.DeletionTimestamp = &p.CreationTimestamp
	if deleted := Decide(p, Observed{}, epoch); !deleted.Gone {
		t.Errorf("deleted: got %+v", deleted)
	}
}
