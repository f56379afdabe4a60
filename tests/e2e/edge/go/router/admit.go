package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"flag"
	"fmt"
	"slices"
	"strings"

	routev1 "github.com/openshift/api/route/v1"
	route "github.com/openshift/library-go/pkg/route"
	"github.com/openshift/library-go/pkg/route/hostassignment"
	"github.com/openshift/library-go/pkg/route/validation"
	kvalidation "k8s.io/apimachinery/pkg/util/validation"
)

// Reasons that the Router gives in the condition Admitted.
const (
	hostAlreadyClaimed       = "HostAlreadyClaimed"
	routeNotAdmitted         = "RouteNotAdmitted"
	extendedValidationFailed = "ExtendedValidationFailed"
	noHostValue              = "NoHostValue"
	invalidHost              = "InvalidHost"
)

type options struct {
	name      string
	canonical string
	domain    string
	wildcards bool
}

func (o *options) flags(set *flag.FlagSet) {
	set.StringVar(&o.name, "name", "default", "the router's name in a Route's status")
	set.StringVar(&o.canonical, "canonical-hostname", "", "the name that hosts are to point to")
	set.StringVar(&o.domain, "domain", "", "the domain below which Routes without a host get one")
	set.BoolVar(&o.wildcards, "wildcards", false, "admit Routes with wildcardPolicy Subdomain")
}

// claim is what was decided about a Route; it is admitted without a reason.
type claim struct {
	route           *routev1.Route
	host            string
	reason, message string
}

func (c *claim) refuse(reason, format string, arguments ...any) {
	c.reason, c.message = reason, fmt.Sprintf(format, arguments...)
}

// generatedHost is the host that OpenShift's API server would give to a Route that is created
// without host and subdomain; empty where it would give none.
func generatedHost(r *routev1.Route, domain string) string {
	if r.Spec.Host != "" || domain == "" {
		return ""
	}
	plugin, err := hostassignment.NewSimpleAllocationPlugin(domain)
	if err != nil {
		return ""
	}
	// Without host and certificates nobody is asked for rights.
	bare := &routev1.Route{ObjectMeta: *r.ObjectMeta.DeepCopy()}
	bare.Spec.Subdomain, bare.Spec.WildcardPolicy = r.Spec.Subdomain, r.Spec.WildcardPolicy
	if hostassignment.AllocateHost(context.Background(), bare, nil, plugin, route.RouteValidationOptions{}) != nil {
		return ""
	}
	return bare.Spec.Host
}

// decide goes through Routes from the oldest to the newest: who asked first for a host has it, and
// nobody of another namespace besides.
func decide(routes []*routev1.Route, o options) []claim {
	slices.SortFunc(routes, func(a, b *routev1.Route) int {
		if by := a.CreationTimestamp.Compare(b.CreationTimestamp.Time); by != 0 {
			return by
		}
		return strings.Compare(string(a.UID), string(b.UID))
	})
	claims := make([]claim, 0, len(routes))
	for _, r := range routes {
		next := claim{route: r, host: r.Spec.Host}
		if next.host == "" && r.Spec.Subdomain != "" && o.domain != "" {
			next.host = r.Spec.Subdomain + "." + o.domain
		}
		switch {
		case r.Spec.WildcardPolicy == routev1.WildcardPolicySubdomain && !o.wildcards:
			next.refuse(routeNotAdmitted, "wildcard routes are not allowed")
		case next.host == "":
			next.refuse(noHostValue, "no host value was defined for the route")
		case badHost(next.host) != "":
			next.refuse(invalidHost, "host name validation errors: %s", badHost(next.host))
		default:
			contend(&next, claims)
			if next.reason == "" {
				if wrong := wrong(r); wrong != "" {
					next.refuse(extendedValidationFailed, "%s", wrong)
				}
			}
		}
		claims = append(claims, next)
	}
	return claims
}

// contend compares a claim with older ones. A Route that was refused for its contents holds its
// host nevertheless.
func contend(next *claim, older []claim) {
	for _, old := range older {
		if old.reason != "" && old.reason != extendedValidationFailed {
			continue
		}
		same := old.route.Namespace == next.route.Namespace
		switch {
		case old.host == next.host && wild(old.route) == wild(next.route):
			if !same {
				next.refuse(hostAlreadyClaimed, "a route in another namespace holds %s and is older than %s", next.host, next.route.Name)
				return
			}
			if samePath(old.route, next.route) {
				next.refuse(hostAlreadyClaimed, "route %s already exposes %s and is older", old.route.Name, next.host)
				return
			}
		case !same && covers(&old, next.host), !same && covers(next, old.host):
			next.refuse(hostAlreadyClaimed, "a route in another namespace holds host %s", next.host)
			return
		case same && wild(old.route) && wild(next.route) && domain(old.host) == domain(next.host) && samePath(old.route, next.route):
			next.refuse(hostAlreadyClaimed, "route %s already exposes *.%s and is older", old.route.Name, domain(next.host))
			return
		}
	}
}

// samePath tells whether two Routes of one host ask for the same requests. Passthrough takes all.
func samePath(a, b *routev1.Route) bool {
	passes := func(r *routev1.Route) bool {
		return r.Spec.TLS != nil && r.Spec.TLS.Termination == routev1.TLSTerminationPassthrough
	}
	return a.Spec.Path == b.Spec.Path || a.Spec.TLS != nil && b.Spec.TLS != nil && (passes(a) || passes(b))
}

func wild(r *routev1.Route) bool {
	return r.Spec.WildcardPolicy == routev1.WildcardPolicySubdomain
}

// domain is what follows a host's first label.
func domain(host string) string {
	_, after, _ := strings.Cut(host, ".")
	return after
}

// covers tells whether a host is one of a wildcard Route's.
func covers(wildcard *claim, host string) bool {
	return wild(wildcard.route) && domain(wildcard.host) == domain(host)
}

func badHost(host string) string {
	wrong := kvalidation.IsDNS1123Subdomain(host)
	for _, label := range strings.Split(host, ".") {
		wrong = append(wrong, kvalidation.IsDNS1123Label(label)...)
	}
	return strings.Join(wrong, ", ")
}

// wrong is what OpenShift's API server (which would not have stored such a Route) and the Router's
// own look into certificates find wrong.
func wrong(r *routev1.Route) string {
	var found []string
	for _, err := range validation.ValidateRoute(context.Background(), r, nil, nil, route.RouteValidationOptions{}) {
		found = append(found, err.Error())
	}
	if r.Spec.TLS == nil {
		return strings.Join(found, ", ")
	}
	t := r.Spec.TLS
	if t.ExternalCertificate != nil {
		found = append(found, "spec.tls.externalCertificate: this stand-in of the Router does not read it")
	}
	if t.Certificate != "" || t.Key != "" {
		if _, err := tls.X509KeyPair([]byte(t.Certificate), []byte(t.Key)); err != nil {
			found = append(found, "spec.tls.certificate: "+err.Error())
		}
	}
	for name, text := range map[string]string{"caCertificate": t.CACertificate, "destinationCACertificate": t.DestinationCACertificate} {
		if text != "" && !isCertificates(text) {
			found = append(found, "spec.tls."+name+": no certificate in PEM")
		}
	}
	slices.Sort(found)
	return strings.Join(found, ", ")
}

func isCertificates(text string) bool {
	rest, count := []byte(text), 0
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return count > 0 && strings.TrimSpace(string(rest)) == ""
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return false
		}
		count++
	}
}
