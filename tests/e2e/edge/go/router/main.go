// Command router stands in for the OpenShift Router in tests. It is not that router, whose image
// cannot be had here: it decides over Routes as that one does (with OpenShift's own library-go for
// what its API server checks), writes the same status, and has Debian's HAProxy serve what it
// admitted. What it does not do it says in a Route's status: externalCertificate, and the many
// annotations besides the three that it reads (see haproxy.go).
//
//	router [flags]          serves the Routes of a cluster
//	router oracle [flags]   reads Routes from standard input, says what OpenShift would say of them
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	routev1 "github.com/openshift/api/route/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
)

var routes = routev1.GroupVersion.WithResource("routes")

// quiet is how long nothing must change before HAProxy is loaded anew, so that a burst of changes
// is one reload.
const quiet = 200 * time.Millisecond

type router struct {
	options   options
	client    dynamic.Interface
	routes    cache.SharedIndexInformer
	services  cache.SharedIndexInformer
	endpoints cache.SharedIndexInformer
	haproxy   *haproxy
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == "oracle" {
		exit(oracle(os.Args[2:]))
	}
	var o options
	var kubeconfig string
	o.flags(flag.CommandLine)
	flag.StringVar(&kubeconfig, "kubeconfig", "", "kubeconfig; that of the pod if empty")
	proxy := haproxy{}
	flag.StringVar(&proxy.program, "haproxy", "/usr/sbin/haproxy", "HAProxy")
	flag.StringVar(&proxy.dir, "dir", "/run/router", "where HAProxy's files are written")
	flag.StringVar(&proxy.certificate, "certificate", "", "folder with tls.crt and tls.key of the default certificate and, if there is one, service-ca.crt")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	exit(run(ctx, o, kubeconfig, &proxy))
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "router:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func run(ctx context.Context, o options, kubeconfig string, proxy *haproxy) error {
	config, err := clientConfig(kubeconfig)
	if err != nil {
		return err
	}
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return err
	}
	typed, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	factory := informers.NewSharedInformerFactory(typed, 0)
	r := &router{
		options:   o,
		client:    client,
		routes:    dynamicinformer.NewFilteredDynamicInformer(client, routes, "", 0, cache.Indexers{}, nil).Informer(),
		services:  factory.Core().V1().Services().Informer(),
		endpoints: factory.Discovery().V1().EndpointSlices().Informer(),
		haproxy:   proxy,
	}
	changed := make(chan struct{}, 1)
	tell := func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	all := []cache.SharedIndexInformer{r.routes, r.services, r.endpoints}
	for _, informer := range all {
		if _, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc:    func(any) { tell() },
			UpdateFunc: func(any, any) { tell() },
			DeleteFunc: func(any) { tell() },
		}); err != nil {
			return err
		}
		go informer.Run(ctx.Done())
	}
	for _, informer := range all {
		if !cache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
			return fmt.Errorf("stopped before everything was listed")
		}
	}
	// It binds its ports when it knows all Routes, so nobody is told that there are none.
	claims, _ := r.claims(ctx)
	ended, err := proxy.start(ctx, r.serve(claims))
	if err != nil {
		return err
	}
	tell()
	for {
		select {
		case <-ctx.Done():
			return proxy.stop()
		case err := <-ended:
			return fmt.Errorf("HAProxy has ended: %w", err)
		case <-changed:
			time.Sleep(quiet)
			select {
			case <-changed:
			default:
			}
			if !r.sync(ctx) {
				// Somebody else wrote in between, or the API server was away.
				time.AfterFunc(time.Second, tell)
			}
		}
	}
}

// claims decides over all Routes; whether those that need a host have got one.
func (r *router) claims(ctx context.Context) ([]claim, bool) {
	done := true
	var seen []*routev1.Route
	for _, object := range r.routes.GetStore().List() {
		route := new(routev1.Route)
		content := object.(*unstructured.Unstructured).Object
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(content, route); err != nil {
			fmt.Fprintln(os.Stderr, "router: a Route that is none:", err)
			continue
		}
		// On OpenShift the API server does this before the Route is stored.
		if host := generatedHost(route, r.options.domain); host != "" {
			done = r.writeHost(ctx, route, host) && done
			continue
		}
		seen = append(seen, route)
	}
	return decide(seen, r.options), done
}

// sync brings statuses and HAProxy in step with what was seen last; whether all of it worked.
func (r *router) sync(ctx context.Context) bool {
	claims, done := r.claims(ctx)
	// As the Router does: a Route is admitted before it is served.
	for _, claim := range claims {
		done = r.writeStatus(ctx, claim) && done
	}
	if err := r.haproxy.load(ctx, r.serve(claims)); err != nil {
		fmt.Fprintln(os.Stderr, "router:", err)
		return false
	}
	return done
}

// serve adds to the admitted what stands behind them.
func (r *router) serve(claims []claim) []served {
	var all []served
	for _, claim := range claims {
		if claim.reason == "" {
			all = append(all, served{claim: claim, servers: servers(claim.route, r.slices)})
		}
	}
	return all
}

// slices are the EndpointSlices of a Service that exists.
func (r *router) slices(namespace, service string) []*discoveryv1.EndpointSlice {
	stored, exists, err := r.services.GetStore().GetByKey(namespace + "/" + service)
	if err != nil || !exists || stored.(*corev1.Service).Spec.Type == corev1.ServiceTypeExternalName {
		return nil
	}
	wanted := labels.SelectorFromSet(labels.Set{discoveryv1.LabelServiceName: service})
	var found []*discoveryv1.EndpointSlice
	for _, object := range r.endpoints.GetStore().List() {
		slice := object.(*discoveryv1.EndpointSlice)
		if slice.Namespace == namespace && wanted.Matches(labels.Set(slice.Labels)) {
			found = append(found, slice)
		}
	}
	return found
}

func clientConfig(kubeconfig string) (*rest.Config, error) {
	if kubeconfig != "" {
		return clientcmd.BuildConfigFromFlags("", kubeconfig)
	}
	return rest.InClusterConfig()
}
