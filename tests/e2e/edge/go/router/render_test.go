package main

import (
	"encoding/json"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	routev1 "github.com/openshift/api/route/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// at makes a Route that was created so many seconds after the first one.
func at(t *testing.T, seconds int64, namespace, name, spec string) *routev1.Route {
	t.Helper()
	route := &routev1.Route{}
	if err := json.Unmarshal([]byte(spec), &route.Spec); err != nil {
		t.Fatal(err)
	}
	defaults(route)
	route.Name, route.Namespace = name, namespace
	route.CreationTimestamp = metav1.NewTime(time.Unix(1700000000+seconds, 0))
	return route
}

// said are the decisions by namespace and name: the host, or the reason.
func said(claims []claim) map[string]string {
	out := map[string]string{}
	for _, c := range claims {
		out[c.route.Namespace+"/"+c.route.Name] = choose(c.reason == "", c.host, c.reason)
	}
	return out
}

func TestTheOldestClaimWins(t *testing.T) {
	to := `"to":{"name":"s"}`
	routes := []*routev1.Route{
		at(t, 3, "b", "late", `{"host":"a.example.com",`+to+`}`),
		at(t, 1, "a", "first", `{"host":"a.example.com",`+to+`}`),
		at(t, 2, "a", "same-path", `{"host":"a.example.com",`+to+`}`),
		at(t, 4, "a", "other-path", `{"host":"a.example.com","path":"/x",`+to+`}`),
		at(t, 5, "a", "sub", `{"subdomain":"x.y",`+to+`}`),
		at(t, 6, "a", "none", `{`+to+`}`),
		at(t, 7, "a", "wild", `{"host":"w.example.com","wildcardPolicy":"Subdomain",`+to+`}`),
		at(t, 8, "a", "passes", `{"host":"p.example.com","tls":{"termination":"passthrough","insecureEdgeTerminationPolicy":"Allow"},`+to+`}`),
		at(t, 9, "c", "behind-refused", `{"host":"p.example.com",`+to+`}`),
		at(t, 10, "a", "label", `{"host":"under_score.example.com",`+to+`}`),
	}
	want := map[string]string{
		"a/first": "a.example.com", "a/same-path": hostAlreadyClaimed, "b/late": hostAlreadyClaimed,
		"a/other-path": "a.example.com", "a/sub": "x.y.apps.test", "a/none": noHostValue,
		"a/wild": routeNotAdmitted, "a/passes": extendedValidationFailed, "c/behind-refused": hostAlreadyClaimed,
		"a/label": invalidHost,
	}
	got := said(decide(slices.Clone(routes), options{domain: "apps.test"}))
	for name, wanted := range want {
		if got[name] != wanted {
			t.Errorf("%s: %s, not %s", name, got[name], wanted)
		}
	}
	// What its API server does for those who say nothing of a host, and for nobody else.
	for i, wanted := range map[int]string{5: "none-a.apps.test", 4: "", 6: "", 0: ""} {
		if host := generatedHost(routes[i], "apps.test"); host != wanted {
			t.Errorf("%s is given %q, not %q", routes[i].Name, host, wanted)
		}
	}
}

func TestWildcardsKeepOthersOut(t *testing.T) {
	to := `"to":{"name":"s"}`
	wildcard := `{"host":"wildcard.w.test","wildcardPolicy":"Subdomain",` + to + `}`
	got := said(decide([]*routev1.Route{
		at(t, 1, "a", "wild", wildcard),
		at(t, 2, "a", "own", `{"host":"own.w.test",`+to+`}`),
		at(t, 3, "b", "other", `{"host":"other.w.test",`+to+`}`),
		at(t, 4, "b", "wild", wildcard),
		at(t, 5, "b", "elsewhere", `{"host":"w.test",`+to+`}`),
	}, options{domain: "apps.test", wildcards: true}))
	for name, wanted := range map[string]string{
		"a/wild": "wildcard.w.test", "a/own": "own.w.test", "b/other": hostAlreadyClaimed,
		"b/wild": hostAlreadyClaimed, "b/elsewhere": "w.test",
	} {
		if got[name] != wanted {
			t.Errorf("%s: %s, not %s", name, got[name], wanted)
		}
	}
}

func TestHAProxyTakesWhatIsRendered(t *testing.T) {
	program := os.Getenv("HAPROXY")
	if program == "" {
		t.Skip("not run: HAPROXY names no program")
	}
	pem, err := os.ReadFile(os.Getenv("HAPROXY_PEM"))
	if err != nil {
		t.Fatal(err)
	}
	certificate, key, _ := strings.Cut(string(pem), "-----BEGIN PRIVATE")
	inline, _ := json.Marshal(map[string]string{
		"termination": "reencrypt", "certificate": certificate, "key": "-----BEGIN PRIVATE" + key,
		"destinationCACertificate": certificate,
	})
	var all []served
	for i, spec := range []string{
		`{"host":"plain.test","path":"/a b/","to":{"name":"s"}}`,
		`{"host":"edge.test","tls":{"termination":"edge","insecureEdgeTerminationPolicy":"Redirect"},"to":{"name":"s"}}`,
		`{"host":"wildcard.w.test","wildcardPolicy":"Subdomain","tls":{"termination":"edge","insecureEdgeTerminationPolicy":"Allow"},"to":{"name":"s"},"alternateBackends":[{"name":"t"}]}`,
		`{"host":"pass.test","tls":{"termination":"passthrough"},"to":{"name":"s"}}`,
		`{"host":"service-ca.test","tls":{"termination":"reencrypt"},"to":{"name":"s"}}`,
		`{"host":"re.test","tls":` + string(inline) + `,"to":{"name":"s"}}`,
	} {
		for _, policy := range []string{"append", "replace", "if-none", "never", ""} {
			route := at(t, int64(i), "a", "r"+policy+string(rune('a'+i)), spec)
			route.Annotations = map[string]string{forwardedHeaders: policy, timeout: "5s", disableCookies: choose(policy == "", "", "true")}
			all = append(all, served{claim: claim{route: route, host: route.Spec.Host}, servers: []server{
				{service: "s", address: netip.MustParseAddrPort("10.0.0.1:80"), weight: 256},
				{service: "t", address: netip.MustParseAddrPort("10.0.0.2:80"), weight: 0, h2c: true},
			}})
		}
	}
	dir := t.TempDir()
	if err := put(dir, render(all, dir, dir, os.Getenv("HAPROXY_PEM"), os.Getenv("HAPROXY_PEM"))); err != nil {
		t.Fatal(err)
	}
	words := append(strings.Fields(program), "-c", "-f", dir+"/haproxy.cfg")
	if told, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, told)
	} else if strings.Contains(string(told), "WARNING") {
		t.Error(string(told))
	}
}
