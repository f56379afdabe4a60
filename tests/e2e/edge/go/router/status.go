package main

import (
	"context"
	"fmt"
	"os"

	routev1 "github.com/openshift/api/route/v1"
	"github.com/openshift/library-go/pkg/route/hostassignment"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
)

// withIngress is the Route with our entry in its status; false where it stood there already.
func withIngress(c claim, o options, now metav1.Time) (*routev1.Route, bool) {
	condition := routev1.RouteIngressCondition{
		Type: routev1.RouteAdmitted, Status: corev1.ConditionTrue,
		Reason: c.reason, Message: c.message, LastTransitionTime: &now,
	}
	if c.reason != "" {
		condition.Status = corev1.ConditionFalse
	}
	next := routev1.RouteIngress{
		Host: c.host, RouterName: o.name, RouterCanonicalHostname: o.canonical,
		WildcardPolicy: c.route.Spec.WildcardPolicy,
		Conditions:     []routev1.RouteIngressCondition{condition},
	}
	route := c.route.DeepCopy()
	for i, old := range route.Status.Ingress {
		if old.RouterName != o.name {
			continue
		}
		if len(old.Conditions) == 1 {
			was := old.Conditions[0]
			same := was.Type == condition.Type && was.Status == condition.Status &&
				was.Reason == condition.Reason && was.Message == condition.Message
			if same && old.Host == next.Host && old.WildcardPolicy == next.WildcardPolicy &&
				old.RouterCanonicalHostname == next.RouterCanonicalHostname {
				return nil, false
			}
		}
		route.Status.Ingress[i] = next
		return route, true
	}
	route.Status.Ingress = append(route.Status.Ingress, next)
	return route, true
}

// writeStatus says what was decided, if it was not said; whether that worked.
func (r *router) writeStatus(ctx context.Context, c claim) bool {
	route, changed := withIngress(c, r.options, metav1.Now().Rfc3339Copy())
	if !changed {
		return true
	}
	object, err := convert(route)
	if err == nil {
		_, err = r.client.Resource(routes).Namespace(route.Namespace).UpdateStatus(ctx, object, metav1.UpdateOptions{})
	}
	return report(err, "status of", route)
}

// writeHost gives a Route the host that OpenShift's API server would have given it.
func (r *router) writeHost(ctx context.Context, route *routev1.Route, host string) bool {
	route = route.DeepCopy()
	route.Spec.Host = host
	metav1.SetMetaDataAnnotation(&route.ObjectMeta, hostassignment.HostGeneratedAnnotationKey, "true")
	object, err := convert(route)
	if err == nil {
		_, err = r.client.Resource(routes).Namespace(route.Namespace).Update(ctx, object, metav1.UpdateOptions{FieldManager: "openshift-apiserver"})
	}
	return report(err, "host of", route)
}

func convert(route *routev1.Route) (*unstructured.Unstructured, error) {
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(route)
	return &unstructured.Unstructured{Object: content}, err
}

func report(err error, what string, route *routev1.Route) bool {
	if err == nil || apierrors.IsNotFound(err) {
		return true
	}
	fmt.Fprintf(os.Stderr, "router: %s %s/%s: %v\n", what, route.Namespace, route.Name, err)
	return false
}
