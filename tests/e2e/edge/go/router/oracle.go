package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	routev1 "github.com/openshift/api/route/v1"
	route "github.com/openshift/library-go/pkg/route"
	"github.com/openshift/library-go/pkg/route/defaulting"
	"github.com/openshift/library-go/pkg/route/hostassignment"
	"github.com/openshift/library-go/pkg/route/validation"
	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/endpoints/request"
)

// question is a Route that somebody writes, and the one that is there already, if any.
type question struct {
	Route *routev1.Route `json:"route"`
	Older *routev1.Route `json:"older,omitempty"`
}

// answer is what OpenShift's API server would say: the host that is stored, or why nothing is.
type answer struct {
	Host   string   `json:"host"`
	Errors []string `json:"errors"`
}

// rights answers for the one user there is.
type rights map[string]bool

func (r rights) Create(_ context.Context, review *authorizationv1.SubjectAccessReview, _ metav1.CreateOptions) (*authorizationv1.SubjectAccessReview, error) {
	asked := review.Spec.ResourceAttributes
	review.Status.Allowed = asked != nil && asked.Group == routev1.GroupName && asked.Resource == "routes" &&
		asked.Subresource == "custom-host" && r[asked.Verb]
	return review, nil
}

// oracle reads questions, one JSON document after the other, and writes an answer a line. The rules
// are library-go's, those that OpenShift's API server runs.
func oracle(arguments []string) error {
	set := flag.NewFlagSet("oracle", flag.ExitOnError)
	domain := set.String("domain", "apps.example.com", "the domain of generated hosts")
	may := set.String("may", "", "verbs that the user has on routes/custom-host, with commas")
	if err := set.Parse(arguments); err != nil {
		return err
	}
	allocator, err := hostassignment.NewSimpleAllocationPlugin(*domain)
	if err != nil {
		return err
	}
	granted := rights{}
	for _, verb := range strings.Split(*may, ",") {
		granted[verb] = true
	}
	in, out := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	for {
		var asked question
		if err := in.Decode(&asked); err == io.EOF {
			return nil
		} else if err != nil {
			return fmt.Errorf("standard input: %w", err)
		}
		if asked.Route == nil {
			return fmt.Errorf("standard input: a question without a route")
		}
		if err := out.Encode(judge(asked, granted, allocator)); err != nil {
			return err
		}
	}
}

func judge(asked question, granted rights, allocator hostassignment.HostnameGenerator) answer {
	r, options := asked.Route, route.RouteValidationOptions{AllowExternalCertificates: true}
	// Whether the Secret is there is not asked: there is no cluster here.
	contents := route.RouteValidationOptions{}
	ctx := request.WithUser(request.WithNamespace(context.Background(), r.Namespace), &user.DefaultInfo{Name: "somebody"})
	defaults(r)
	var errs field.ErrorList
	if asked.Older == nil {
		errs = hostassignment.AllocateHost(ctx, r, granted, allocator, options)
		errs = append(errs, validation.ValidateRoute(ctx, r, granted, nil, contents)...)
	} else {
		defaults(asked.Older)
		// What the API server fills in before it asks.
		asked.Older.UID, asked.Older.ResourceVersion = "older", "1"
		r.UID, r.ResourceVersion = asked.Older.UID, asked.Older.ResourceVersion
		errs = hostassignment.ValidateHostUpdate(ctx, r, asked.Older, granted, options)
		errs = append(errs, validation.ValidateRouteUpdate(ctx, r, asked.Older, granted, nil, contents)...)
	}
	said := answer{Host: r.Spec.Host, Errors: []string{}}
	for _, err := range errs {
		said.Errors = append(said.Errors, err.Error())
	}
	return said
}

// defaults fills in what OpenShift's API server fills in before it looks.
func defaults(r *routev1.Route) {
	defaulting.SetDefaults_RouteSpec(&r.Spec)
	defaulting.SetDefaults_RouteTargetReference(&r.Spec.To)
	if r.Spec.TLS != nil {
		defaulting.SetDefaults_TLSConfig(r.Spec.TLS)
	}
}
