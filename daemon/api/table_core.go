package api

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

func init() {
	core := func(kind string, t table) { tables[schema.GroupKind{Kind: kind}] = t }
	core("ConfigMap", show("Name Data Age", func(o *v1.ConfigMap, now time.Time) []any {
		return []any{o.Name, len(o.Data) + len(o.BinaryData), age(o, now)}
	}))
	core("Secret", show("Name Type Data Age", func(o *v1.Secret, now time.Time) []any {
		return []any{o.Name, string(o.Type), len(o.Data), age(o, now)}
	}))
	core("Namespace", show("Name Status Age", func(o *v1.Namespace, now time.Time) []any {
		return []any{o.Name, string(o.Status.Phase), age(o, now)}
	}))
	core("Node", show("Name Status Roles Age Version *Internal-IP *External-IP *OS-Image *Kernel-Version *Container-Runtime", nodeCells))
	core("Event", show("Last_Seen Type Reason Object *Subobject *Source Message *First_Seen *Count *Name", eventCells))
	core("Service", show("Name Type Cluster-IP External-IP Port(s) Age *Selector", serviceCells))
	core("Endpoints", show("Name Endpoints Age", func(o *v1.Endpoints, now time.Time) []any {
		return []any{o.Name, endpoints(o), age(o, now)}
	}))
	core("ReplicationController", show("Name Desired:integer Current:integer Ready:integer Age *Containers *Images *Selector",
		func(o *v1.ReplicationController, now time.Time) []any {
			var names, refs string
			if o.Spec.Template != nil {
				names, refs = images(o.Spec.Template.Spec.Containers)
			}
			return []any{o.Name, deref(o.Spec.Replicas), o.Status.Replicas, o.Status.ReadyReplicas, age(o, now),
				names, refs, formatLabels(o.Spec.Selector)}
		}))
	core("PodTemplate", show("Name Containers Images Pod_Labels", func(o *v1.PodTemplate, _ time.Time) []any {
		names, refs := images(o.Template.Spec.Containers)
		return []any{o.Name, names, refs, formatLabels(o.Template.Labels)}
	}))
	core("ResourceQuota", show("Name Request Limit Age", quotaCells))
	core("LimitRange", show("Name Created_At", func(o *v1.LimitRange, _ time.Time) []any {
		return []any{o.Name, o.CreationTimestamp.UTC().Format(time.RFC3339)}
	}))
	core("PersistentVolume", show("Name Capacity Access_Modes Reclaim_Policy Status Claim StorageClass VolumeAttributesClass Reason Age *VolumeMode", volumeCells))
	core("PersistentVolumeClaim", show("Name Status Volume Capacity Access_Modes StorageClass VolumeAttributesClass Age *VolumeMode", claimCells))
}

func nodeCells(o *v1.Node, now time.Time) []any {
	status := "Unknown"
	for _, c := range o.Status.Conditions {
		if c.Type == v1.NodeReady {
			status = "Ready"
			if c.Status != v1.ConditionTrue {
				status = "NotReady"
			}
		}
	}
	if o.Spec.Unschedulable {
		status += ",SchedulingDisabled"
	}
	address := func(kind v1.NodeAddressType) string {
		for _, a := range o.Status.Addresses {
			if a.Type == kind {
				return a.Address
			}
		}
		return "<none>"
	}
	info := o.Status.NodeInfo
	kernel := or(info.KernelVersion, "<unknown>")
	if info.Architecture != "" {
		kernel += " (" + info.Architecture + ")"
	}
	return []any{
		o.Name, status, or(strings.Join(roles(o), ","), "<none>"), age(o, now), info.KubeletVersion,
		address(v1.NodeInternalIP), address(v1.NodeExternalIP), or(info.OSImage, "<unknown>"), kernel,
		or(info.ContainerRuntimeVersion, "<unknown>"),
	}
}

func roles(o *v1.Node) []string {
	var list []string
	for k, v := range o.Labels {
		if role, ok := strings.CutPrefix(k, "node-role.kubernetes.io/"); ok && role != "" {
			list = append(list, role)
		} else if k == "kubernetes.io/role" && v != "" {
			list = append(list, v)
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

func eventCells(o *v1.Event, now time.Time) []any {
	first := since(o.FirstTimestamp, now)
	if o.FirstTimestamp.IsZero() {
		first = since(metav1.Time(o.EventTime), now)
	}
	last := since(o.LastTimestamp, now)
	if o.LastTimestamp.IsZero() {
		last = first
	}
	count := max(o.Count, 1)
	if o.Series != nil {
		last, count = since(metav1.Time(o.Series.LastObservedTime), now), o.Series.Count
	}
	about := strings.ToLower(o.InvolvedObject.Kind)
	if o.InvolvedObject.Name != "" {
		about += "/" + o.InvolvedObject.Name
	}
	source := or(o.Source.Component, o.ReportingController)
	if host := or(o.Source.Host, o.ReportingInstance); host != "" {
		source += ", " + host
	}
	return []any{last, o.Type, o.Reason, about, o.InvolvedObject.FieldPath, source,
		strings.TrimSpace(o.Message), first, count, o.Name}
}

func serviceCells(o *v1.Service, now time.Time) []any {
	ip := "<none>"
	if len(o.Spec.ClusterIPs) > 0 {
		ip = o.Spec.ClusterIPs[0]
	}
	var ports []string
	for _, p := range o.Spec.Ports {
		s := strconv.Itoa(int(p.Port))
		if p.NodePort > 0 {
			s += ":" + strconv.Itoa(int(p.NodePort))
		}
		ports = append(ports, s+"/"+string(p.Protocol))
	}
	return []any{o.Name, string(o.Spec.Type), ip, externalIPs(o), or(strings.Join(ports, ","), "<none>"), age(o, now),
		formatLabels(o.Spec.Selector)}
}

func externalIPs(o *v1.Service) string {
	switch o.Spec.Type {
	case v1.ServiceTypeExternalName:
		return o.Spec.ExternalName
	case v1.ServiceTypeLoadBalancer:
		var given []string
		for _, i := range o.Status.LoadBalancer.Ingress {
			given = append(given, or(i.IP, i.Hostname))
		}
		slices.Sort(given)
		return or(strings.Join(append(given, o.Spec.ExternalIPs...), ","), "<pending>")
	}
	return or(strings.Join(o.Spec.ExternalIPs, ","), "<none>")
}

func endpoints(o *v1.Endpoints) string {
	var list []string
	for _, s := range o.Subsets {
		for _, a := range s.Addresses {
			if len(s.Ports) == 0 {
				list = append(list, a.IP)
			}
		}
		for _, p := range s.Ports {
			for _, a := range s.Addresses {
				list = append(list, net.JoinHostPort(a.IP, strconv.Itoa(int(p.Port))))
			}
		}
	}
	return firstFew(list, "<none>")
}

func quotaCells(o *v1.ResourceQuota, now time.Time) []any {
	var names []string
	for name := range o.Status.Hard {
		names = append(names, string(name))
	}
	slices.Sort(names)
	var requests, limits []string
	for _, name := range names {
		used, hard := o.Status.Used[v1.ResourceName(name)], o.Status.Hard[v1.ResourceName(name)]
		s := fmt.Sprintf("%s: %s/%s", name, used.String(), hard.String())
		if strings.HasPrefix(name, "limits.") {
			limits = append(limits, s)
		} else {
			requests = append(requests, s)
		}
	}
	return []any{o.Name, strings.Join(requests, ", "), strings.Join(limits, ", "), age(o, now)}
}

func volumeCells(o *v1.PersistentVolume, now time.Time) []any {
	size := o.Spec.Capacity[v1.ResourceStorage]
	phase, claim, mode := string(o.Status.Phase), "", "<unset>"
	if o.DeletionTimestamp != nil {
		phase = "Terminating"
	}
	if c := o.Spec.ClaimRef; c != nil {
		claim = c.Namespace + "/" + c.Name
	}
	if o.Spec.VolumeMode != nil {
		mode = string(*o.Spec.VolumeMode)
	}
	return []any{o.Name, size.String(), accessModes(o.Spec.AccessModes), string(o.Spec.PersistentVolumeReclaimPolicy),
		phase, claim, o.Spec.StorageClassName, or(deref(o.Spec.VolumeAttributesClassName), "<unset>"), o.Status.Reason,
		age(o, now), mode}
}

func claimCells(o *v1.PersistentVolumeClaim, now time.Time) []any {
	phase, capacity, modes, mode := string(o.Status.Phase), "", "", "<unset>"
	if o.DeletionTimestamp != nil {
		phase = "Terminating"
	}
	if o.Spec.VolumeName != "" {
		size := o.Status.Capacity[v1.ResourceStorage]
		capacity, modes = size.String(), accessModes(o.Status.AccessModes)
	}
	if o.Spec.VolumeMode != nil {
		mode = string(*o.Spec.VolumeMode)
	}
	return []any{o.Name, phase, o.Spec.VolumeName, capacity, modes, deref(o.Spec.StorageClassName),
		or(deref(o.Spec.VolumeAttributesClassName), "<unset>"), age(o, now), mode}
}
