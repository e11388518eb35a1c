package api

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	coordinationv1 "k8s.io/api/coordination/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	nodev1 "k8s.io/api/node/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/shoal-project/shoal/daemon/view"
)

func init() {
	of := func(group, kind string, t table) { tables[schema.GroupKind{Group: group, Kind: kind}] = t }
	of("networking.k8s.io", "Ingress", show("Name Class Hosts Address Ports Age", ingressCells))
	of("networking.k8s.io", "IngressClass", show("Name Controller Parameters Age", ingressClassCells))
	of("networking.k8s.io", "NetworkPolicy", show("Name Pod-Selector Age", func(o *networkingv1.NetworkPolicy, now time.Time) []any {
		return []any{o.Name, metav1.FormatLabelSelector(&o.Spec.PodSelector), age(o, now)}
	}))
	of("discovery.k8s.io", "EndpointSlice", show("Name AddressType Ports Endpoints Age", sliceCells))
	of("policy", "PodDisruptionBudget", show("Name Min_Available Max_Unavailable Allowed_Disruptions:integer Age",
		func(o *policyv1.PodDisruptionBudget, now time.Time) []any {
			return []any{o.Name, number(o.Spec.MinAvailable), number(o.Spec.MaxUnavailable), o.Status.DisruptionsAllowed, age(o, now)}
		}))
	of("autoscaling", "HorizontalPodAutoscaler", show("Name Reference Targets MinPods MaxPods Replicas Age", autoscalerCells))
	of("scheduling.k8s.io", "PriorityClass", show("Name Value:integer Global-Default:boolean Age *PreemptionPolicy",
		func(o *schedulingv1.PriorityClass, now time.Time) []any {
			return []any{o.Name, o.Value, o.GlobalDefault, age(o, now), string(deref(o.PreemptionPolicy))}
		}))
	of("coordination.k8s.io", "Lease", show("Name Holder Age", func(o *coordinationv1.Lease, now time.Time) []any {
		return []any{o.Name, deref(o.Spec.HolderIdentity), age(o, now)}
	}))
	of("node.k8s.io", "RuntimeClass", show("Name Handler Age", func(o *nodev1.RuntimeClass, now time.Time) []any {
		return []any{o.Name, o.Handler, age(o, now)}
	}))
	of("storage.k8s.io", "StorageClass", show("Name Provisioner ReclaimPolicy VolumeBindingMode AllowVolumeExpansion Age",
		func(o *storagev1.StorageClass, now time.Time) []any {
			return []any{isDefault(o, "storageclass.kubernetes.io/is-default-class"), o.Provisioner,
				or(string(deref(o.ReclaimPolicy)), "Delete"), or(string(deref(o.VolumeBindingMode)), "Immediate"),
				deref(o.AllowVolumeExpansion), age(o, now)}
		}))
	rbacTables(of)
}

func rbacTables(of func(group, kind string, t table)) {
	created := func(o metav1.Object) string { t := o.GetCreationTimestamp(); return t.UTC().Format(time.RFC3339) }
	const binding = "Name Role Age *Users *Groups *ServiceAccounts"
	of(rbacv1.GroupName, "Role", show("Name Created_At", func(o *rbacv1.Role, _ time.Time) []any {
		return []any{o.Name, created(o)}
	}))
	of(rbacv1.GroupName, "ClusterRole", show("Name Created_At", func(o *rbacv1.ClusterRole, _ time.Time) []any {
		return []any{o.Name, created(o)}
	}))
	of(rbacv1.GroupName, "RoleBinding", show(binding, func(o *rbacv1.RoleBinding, now time.Time) []any {
		return bindingCells(o, o.RoleRef, o.Subjects, now)
	}))
	of(rbacv1.GroupName, "ClusterRoleBinding", show(binding, func(o *rbacv1.ClusterRoleBinding, now time.Time) []any {
		return bindingCells(o, o.RoleRef, o.Subjects, now)
	}))
}

func bindingCells(o metav1.Object, role rbacv1.RoleRef, subjects []rbacv1.Subject, now time.Time) []any {
	by := map[string][]string{}
	for _, s := range subjects {
		name := s.Name
		if s.Kind == rbacv1.ServiceAccountKind {
			name = s.Namespace + "/" + s.Name
		}
		by[s.Kind] = append(by[s.Kind], name)
	}
	list := func(kind string) string { return strings.Join(by[kind], ", ") }
	return []any{o.GetName(), role.Kind + "/" + role.Name, age(o, now),
		list(rbacv1.UserKind), list(rbacv1.GroupKind), list(rbacv1.ServiceAccountKind)}
}

func number(n *intstr.IntOrString) string {
	if n == nil {
		return "N/A"
	}
	return n.String()
}

func ingressCells(o *networkingv1.Ingress, now time.Time) []any {
	var hosts, addresses []string
	for _, r := range o.Spec.Rules {
		if r.Host != "" {
			hosts = append(hosts, r.Host)
		}
	}
	for _, i := range o.Status.LoadBalancer.Ingress {
		addresses = append(addresses, or(i.IP, i.Hostname))
	}
	slices.Sort(addresses)
	ports := "80"
	if len(o.Spec.TLS) > 0 {
		ports = "80, 443"
	}
	return []any{o.Name, or(deref(o.Spec.IngressClassName), "<none>"), firstFew(hosts, "*"), strings.Join(addresses, ","), ports, age(o, now)}
}

func ingressClassCells(o *networkingv1.IngressClass, now time.Time) []any {
	parameters := "<none>"
	if p := o.Spec.Parameters; p != nil {
		parameters = p.Kind
		if p.APIGroup != nil {
			parameters += "." + *p.APIGroup
		}
		parameters += "/" + p.Name
	}
	return []any{isDefault(o, networkingv1.AnnotationIsDefaultIngressClass), o.Spec.Controller, parameters, age(o, now)}
}

func sliceCells(o *discoveryv1.EndpointSlice, now time.Time) []any {
	var ports, addresses []string
	for _, p := range o.Ports {
		switch {
		case p.Port != nil:
			ports = append(ports, strconv.Itoa(int(*p.Port)))
		case p.Name != nil:
			ports = append(ports, *p.Name)
		default:
			ports = append(ports, "*")
		}
	}
	for _, e := range o.Endpoints {
		addresses = append(addresses, e.Addresses...)
	}
	return []any{o.Name, string(o.AddressType), firstFew(ports, "<unset>"), firstFew(addresses, "<unset>"), age(o, now)}
}

// autoscalerCells shows both versions as v2.
func autoscalerCells(o view.Object, now time.Time) []any {
	a, ok := o.(*autoscalingv2.HorizontalPodAutoscaler)
	if !ok {
		out, err := convert(o, autoscalingv2.SchemeGroupVersion.WithKind("HorizontalPodAutoscaler"))
		if err != nil {
			first := o.(*autoscalingv1.HorizontalPodAutoscaler)
			return []any{first.Name, "<unknown>", "<unknown>", "<unset>", first.Spec.MaxReplicas, first.Status.CurrentReplicas, age(o, now)}
		}
		a = out.(*autoscalingv2.HorizontalPodAutoscaler)
	}
	low := "<unset>"
	if a.Spec.MinReplicas != nil {
		low = strconv.Itoa(int(*a.Spec.MinReplicas))
	}
	var targets []string
	for i, m := range a.Spec.Metrics {
		var now autoscalingv2.MetricStatus
		if i < len(a.Status.CurrentMetrics) {
			now = a.Status.CurrentMetrics[i]
		}
		targets = append(targets, metricTarget(m, now))
	}
	shown := or(strings.Join(targets[:min(2, len(targets))], ", "), "<none>")
	if more := len(targets) - 2; more > 0 {
		shown += fmt.Sprintf(" + %d more...", more)
	}
	return []any{a.Name, a.Spec.ScaleTargetRef.Kind + "/" + a.Spec.ScaleTargetRef.Name, shown, low,
		a.Spec.MaxReplicas, a.Status.CurrentReplicas, age(a, now)}
}

// metricTarget is "cpu: 30%/80%": what a metric is and should be.
func metricTarget(m autoscalingv2.MetricSpec, s autoscalingv2.MetricStatus) string {
	var name string
	var want autoscalingv2.MetricTarget
	var have *autoscalingv2.MetricValueStatus
	switch {
	case m.Resource != nil:
		name, want = string(m.Resource.Name)+": ", m.Resource.Target
		if s.Resource != nil {
			have = &s.Resource.Current
		}
	case m.ContainerResource != nil:
		name, want = string(m.ContainerResource.Name)+": ", m.ContainerResource.Target
		if s.ContainerResource != nil {
			have = &s.ContainerResource.Current
		}
	case m.Pods != nil:
		want = m.Pods.Target
		if s.Pods != nil {
			have = &s.Pods.Current
		}
	case m.Object != nil:
		want = m.Object.Target
		if s.Object != nil {
			have = &s.Object.Current
		}
	case m.External != nil:
		want = m.External.Target
		if s.External != nil {
			have = &s.External.Current
		}
	default:
		return "<unknown type>"
	}
	return name + compare(have, want)
}

func compare(have *autoscalingv2.MetricValueStatus, want autoscalingv2.MetricTarget) string {
	if have == nil {
		have = &autoscalingv2.MetricValueStatus{}
	}
	current := "<unknown>"
	switch {
	case want.AverageUtilization != nil:
		if have.AverageUtilization != nil {
			current = fmt.Sprintf("%d%%", *have.AverageUtilization)
		}
		return fmt.Sprintf("%s/%d%%", current, *want.AverageUtilization)
	case want.AverageValue != nil:
		if have.AverageValue != nil {
			current = have.AverageValue.String()
		}
		return current + "/" + want.AverageValue.String()
	case want.Value != nil:
		if have.Value != nil {
			current = have.Value.String()
		}
		return current + "/" + want.Value.String()
	}
	return current + "/<auto>"
}
