package api

import (
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	metrics "k8s.io/metrics/pkg/apis/metrics/v1beta1"
)

func init() {
	tables[schema.GroupKind{Group: metrics.GroupName, Kind: "NodeMetrics"}] = show("Name CPU Memory Window",
		func(n *metrics.NodeMetrics, _ time.Time) []any {
			return []any{n.Name, n.Usage.Cpu().String(), n.Usage.Memory().String(), n.Window.Duration.String()}
		})
	tables[schema.GroupKind{Group: metrics.GroupName, Kind: "PodMetrics"}] = show("Name CPU Memory Window",
		func(p *metrics.PodMetrics, _ time.Time) []any {
			sum := v1.ResourceList{}
			for _, c := range p.Containers {
				for name, used := range c.Usage {
					total := sum[name]
					total.Add(used)
					sum[name] = total
				}
			}
			return []any{p.Name, sum.Cpu().String(), sum.Memory().String(), p.Window.Duration.String()}
		})
}
