package main

import (
	"fmt"
	"net/netip"
	"slices"
	"sort"

	routev1 "github.com/openshift/api/route/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// server is a pod that a Route leads to.
type server struct {
	service string
	address netip.AddrPort
	weight  int
	h2c     bool
}

const mostWeight = 256

// servers are the ready pods behind a Route's Services. A Service's weight is shared by its pods; the
// greatest share becomes HAProxy's greatest weight.
func servers(r *routev1.Route, slices func(namespace, service string) []*discoveryv1.EndpointSlice) []server {
	var all []server
	targets := append([]routev1.RouteTargetReference{r.Spec.To}, r.Spec.AlternateBackends...)
	shares := make([]float64, len(targets))
	found := make([][]server, len(targets))
	greatest := 0.0
	for i, target := range targets {
		found[i] = behind(r, target.Name, slices(r.Namespace, target.Name))
		weight := int32(100)
		if target.Weight != nil {
			weight = *target.Weight
		}
		if len(found[i]) > 0 {
			shares[i] = float64(weight) / float64(len(found[i]))
			greatest = max(greatest, shares[i])
		}
	}
	for i := range targets {
		for _, one := range found[i] {
			if shares[i] > 0 {
				one.weight = max(1, int(shares[i]/greatest*mostWeight))
			}
			all = append(all, one)
		}
	}
	return all
}

// behind are the ready pods of a Service at the port that the Route says: by the name that the
// Service gives it, or by the pods' number.
func behind(r *routev1.Route, service string, all []*discoveryv1.EndpointSlice) []server {
	var found []server
	for _, slice := range all {
		for _, port := range slice.Ports {
			if port.Port == nil || !isPort(r.Spec.Port, port) {
				continue
			}
			for _, endpoint := range slice.Endpoints {
				if endpoint.Conditions.Ready != nil && !*endpoint.Conditions.Ready {
					continue
				}
				for _, text := range endpoint.Addresses {
					address, err := netip.ParseAddr(text)
					if err != nil || address.IsLoopback() || address.IsLinkLocalUnicast() {
						continue
					}
					protocol := ""
					if port.AppProtocol != nil {
						protocol = *port.AppProtocol
					}
					found = append(found, server{
						service: service,
						address: netip.AddrPortFrom(address, uint16(*port.Port)),
						h2c:     protocol == "h2c" || protocol == "kubernetes.io/h2c",
					})
				}
			}
		}
	}
	sort.Slice(found, func(i, j int) bool { return found[i].address.Compare(found[j].address) < 0 })
	return slices.Compact(found)
}

func isPort(wanted *routev1.RoutePort, port discoveryv1.EndpointPort) bool {
	if wanted == nil {
		return true
	}
	if wanted.TargetPort.Type == intstr.Int {
		return wanted.TargetPort.IntVal == *port.Port
	}
	name := ""
	if port.Name != nil {
		name = *port.Name
	}
	return wanted.TargetPort.StrVal == name || wanted.TargetPort.StrVal == fmt.Sprint(*port.Port)
}
