package main

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	routev1 "github.com/openshift/api/route/v1"
)

// Annotations that are read.
const (
	forwardedHeaders = "haproxy.router.openshift.io/set-forwarded-headers"
	disableCookies   = "haproxy.router.openshift.io/disable_cookies"
	timeout          = "haproxy.router.openshift.io/timeout"
)

// served is an admitted Route with the pods that it leads to.
type served struct {
	claim
	servers []server
}

func (s *served) termination() routev1.TLSTerminationType {
	if s.route.Spec.TLS == nil {
		return ""
	}
	return s.route.Spec.TLS.Termination
}

func (s *served) insecure() routev1.InsecureEdgeTerminationPolicyType {
	if s.route.Spec.TLS == nil {
		return routev1.InsecureEdgeTerminationPolicyAllow
	}
	return s.route.Spec.TLS.InsecureEdgeTerminationPolicy
}

func (s *served) backend() string {
	kind := map[routev1.TLSTerminationType]string{
		"":                                "http",
		routev1.TLSTerminationEdge:        "edge",
		routev1.TLSTerminationReencrypt:   "reencrypt",
		routev1.TLSTerminationPassthrough: "passthrough",
	}[s.termination()]
	return fmt.Sprintf("%s:%s:%s", kind, s.route.Namespace, s.route.Name)
}

// files of a configuration, by their names in a folder, as HAProxy of Debian 12 (2.6) reads them.
type files map[string]string

// render writes the configuration of all served Routes, in the shape of the Router's: plain HTTP in
// one frontend; TLS looked at for its server name, which leads to a passthrough Route's pods, or
// through a socket with the PROXY protocol to the frontend that ends TLS. dir is the folder that
// the files will lie in, sockets the one that stays.
func render(all []served, dir, sockets, certificate, serviceCA string) files {
	slices.SortFunc(all, func(a, b served) int { return cmp.Compare(a.backend(), b.backend()) })
	out := files{}
	var plain, redirect, secure, passed []entry
	var list, backends strings.Builder
	for i := range all {
		one := &all[i]
		web := entry{match: requests(one), value: one.backend(), wild: wild(one.route), path: one.route.Spec.Path}
		switch one.termination() {
		case routev1.TLSTerminationPassthrough:
			passed = append(passed, entry{match: names(one), value: one.backend(), wild: wild(one.route)})
		case "":
			plain = append(plain, web)
		default:
			secure = append(secure, web)
			if one.insecure() == routev1.InsecureEdgeTerminationPolicyAllow {
				plain = append(plain, web)
			}
			if t := one.route.Spec.TLS; t.Certificate != "" {
				name := fileName(one, "crt")
				out[name] = strings.Join([]string{t.Certificate, t.Key, t.CACertificate}, "\n")
				host := one.host
				if wild(one.route) {
					host = "*." + domain(host)
				}
				// HTTP/2 is offered only where the Route brings its certificate.
				fmt.Fprintf(&list, "%s [alpn h2,http/1.1] %s\n", filepath.Join(dir, name), host)
			}
		}
		if one.insecure() == routev1.InsecureEdgeTerminationPolicyRedirect {
			redirect = append(redirect, entry{match: web.match, value: "1", wild: web.wild, path: web.path})
		}
		backends.WriteString(backend(one, dir, serviceCA, out))
	}
	out["plain.map"], out["redirect.map"] = table(plain), table(redirect)
	out["secure.map"], out["passed.map"] = table(secure), table(passed)
	out["certificates.list"] = list.String()
	out["haproxy.cfg"] = frontends(dir, sockets, certificate) + backends.String()
	// What is loaded can be told from what is not yet.
	out["haproxy.cfg"] += fmt.Sprintf(`
frontend health
  bind :%d
  mode http
  http-request return status 200 content-type text/plain string %s
`, healthPort, out.digest())
	return out
}

const healthPort = 1936

func (f files) digest() string {
	hash := sha256.New()
	for _, name := range slices.Sorted(func(yield func(string) bool) {
		for name := range f {
			if !yield(name) {
				return
			}
		}
	}) {
		fmt.Fprintf(hash, "%d %s %d %s", len(name), name, len(f[name]), f[name])
	}
	return fmt.Sprintf("%x", hash.Sum(nil)[:8])
}

func frontends(dir, sockets, certificate string) string {
	at := func(name string) string { return filepath.Join(dir, name) }
	// What a client may not say for itself, as the Router strikes it out.
	strike := `  http-request deny if { hdr_len(content-length) 0 }
  http-request del-header Proxy
  http-request set-header Host %[req.hdr(Host),lower]
`
	return fmt.Sprintf(`global
  no strict-limits
  maxconn 4000
  log stdout format raw local0 notice
  stats socket %[1]s/stats.sock mode 600 level admin expose-fd listeners
  tune.maxrewrite 8192
  tune.bufsize 32768
  ssl-default-bind-options ssl-min-ver TLSv1.2

defaults
  log global
  maxconn 4000
  timeout connect 5s
  timeout client 30s
  timeout client-fin 1s
  timeout server 30s
  timeout server-fin 1s
  timeout http-request 10s
  timeout http-keep-alive 300s
  timeout tunnel 1h

frontend public
  bind :80
  mode http
  option idle-close-on-response
  tcp-request inspect-delay 5s
  tcp-request content accept if HTTP
%[2]s  http-request redirect location https://%%[req.hdr(host),regsub(:[0-9]+$,,)]%%[url] code 302 if { base,map_reg(%[3]s) -m found }
  use_backend %%[base,map_reg(%[4]s)]
  default_backend nothing

frontend public_ssl
  bind :443
  mode tcp
  tcp-request inspect-delay 5s
  tcp-request content accept if { req_ssl_hello_type 1 }
  use_backend %%[req.ssl_sni,lower,map_reg(%[5]s)] if { req.ssl_sni,lower,map_reg(%[5]s) -m found }
  default_backend ending_tls

backend ending_tls
  mode tcp
  server itself unix@%[1]s/tls.sock weight 1 send-proxy

frontend tls
  bind unix@%[1]s/tls.sock ssl crt %[6]s crt-list %[7]s accept-proxy
  mode http
  option idle-close-on-response
%[2]s  use_backend %%[base,map_reg(%[8]s)]
  default_backend nothing

backend nothing
  mode http
`, sockets, strike, at("redirect.map"), at("plain.map"), at("passed.map"), certificate,
		at("certificates.list"), at("secure.map"))
}

func backend(one *served, dir, serviceCA string, out files) string {
	var b strings.Builder
	line := func(format string, arguments ...any) { fmt.Fprintf(&b, "  "+format+"\n", arguments...) }
	fmt.Fprintf(&b, "\nbackend %s\n", one.backend())
	passes := one.termination() == routev1.TLSTerminationPassthrough
	several := len(one.route.Spec.AlternateBackends) > 0
	annotation := func(name string) string { return one.route.Annotations[name] }
	limit := "server"
	if passes {
		limit = "tunnel"
		line("mode tcp")
		line("balance %s", choose(several, "roundrobin", "source"))
		line("hash-type consistent")
	} else {
		line("mode http")
		line("option redispatch")
		line("balance %s", choose(several, "roundrobin", "random"))
		forwarded(annotation(forwardedHeaders), line)
	}
	if value := annotation(timeout); regexp.MustCompile(`^[1-9][0-9]*(us|ms|s|m|h|d)?$`).MatchString(value) {
		line("timeout %s %s", limit, value)
	}
	cookies := !passes && annotation(disableCookies) != "true"
	if cookies {
		name := fmt.Sprintf("%x", sha256.Sum256([]byte(one.backend())))[:32]
		line("cookie %s insert indirect nocache httponly%s", name,
			choose(one.termination() != "" && one.insecure() != routev1.InsecureEdgeTerminationPolicyAllow,
				" secure attr SameSite=None", ""))
	}
	line("timeout check 5000ms")
	// Of a Route's own authority any certificate will do; without one it must be service-ca's for
	// the Service's name.
	serviceName, authority := true, serviceCA
	if t := one.route.Spec.TLS; t != nil && t.DestinationCACertificate != "" {
		name := fileName(one, "ca")
		out[name] = t.DestinationCACertificate
		serviceName, authority = false, filepath.Join(dir, name)
	}
	for i, s := range one.servers {
		if passes && s.weight == 0 {
			continue
		}
		more := ""
		if cookies {
			more += fmt.Sprintf(" cookie %x", sha256.Sum256([]byte(s.address.String())))[:39]
		}
		more += fmt.Sprintf(" weight %d", s.weight)
		if one.termination() == routev1.TLSTerminationReencrypt {
			more += " ssl alpn h2,http/1.1"
			if serviceName {
				more += fmt.Sprintf(" verifyhost %s.%s.svc", s.service, one.route.Namespace)
			}
			more += " verify required ca-file " + authority
		} else if s.h2c && !passes {
			more += " proto h2"
		}
		if len(one.servers) > 1 {
			more += " check inter 5000ms"
		}
		line("server pod%d %s%s", i, s.address, more)
	}
	return b.String()
}

// forwarded writes what a request is told to have come from. Who appends keeps what the client said.
func forwarded(policy string, line func(string, ...any)) {
	if !slices.Contains([]string{"append", "replace", "if-none", "never"}, policy) {
		policy = "append"
	}
	if policy == "never" {
		return
	}
	verb, unless := "set-header", func(string) string { return "" }
	switch policy {
	case "append":
		verb = "add-header"
		line("option forwardfor")
	case "replace":
		line("http-request set-header X-Forwarded-For %%[src]")
	case "if-none":
		unless = func(name string) string { return " !{ req.hdr(" + name + ") -m found }" }
		line("option forwardfor if-none")
	}
	on := func(name, value, condition string) {
		condition = strings.TrimSpace(condition + unless(name))
		if condition != "" {
			condition = " if " + condition
		}
		line("http-request %s %s %s%s", verb, name, value, condition)
	}
	on("X-Forwarded-Host", "%[req.hdr(host)]", "")
	on("X-Forwarded-Port", "%[dst_port]", "")
	// One rule for both: the second one of if-none would find what the first has set.
	line("http-request set-var(txn.proto) str(http) if !{ ssl_fc }")
	line("http-request set-var(txn.proto) str(https) if { ssl_fc }")
	on("X-Forwarded-Proto", "%[var(txn.proto)]", "")
	on("X-Forwarded-Proto-Version", "h2", "{ ssl_fc_alpn -i h2 }")
	line("http-request set-var(txn.for) src")
	line(`http-request set-var-fmt(txn.for) \"[%%[src]]\" if { src -m sub : }`)
	on("Forwarded", "for=%[var(txn.for)];host=%[req.hdr(host)];proto=%[req.hdr(X-Forwarded-Proto)]", "")
}

// entry is a line of a map: what is looked up by a regular expression, the first match wins.
type entry struct {
	match, value, path string
	wild               bool
}

// table puts the more special before the more general: hosts before wildcards, longer paths before
// shorter ones.
func table(entries []entry) string {
	slices.SortFunc(entries, func(a, b entry) int {
		if a.wild != b.wild {
			return choose(a.wild, 1, -1)
		}
		return cmp.Or(cmp.Compare(len(b.path), len(a.path)), cmp.Compare(a.match, b.match))
	})
	var b strings.Builder
	for _, e := range entries {
		fmt.Fprintf(&b, "%s %s\n", e.match, e.value)
	}
	return b.String()
}

func host(one *served) string {
	if wild(one.route) {
		return `[^.]*` + regexp.QuoteMeta("."+domain(one.host))
	}
	return regexp.QuoteMeta(one.host)
}

// names matches a TLS server name.
func names(one *served) string { return "^" + host(one) + "$" }

// requests matches HAProxy's `base`: the Host header and the path. A path is matched by whole
// segments.
func requests(one *served) string {
	path := one.route.Spec.Path
	rest := `(/.*)?`
	switch {
	case strings.TrimRight(path, "/") == "":
		path = ""
	case strings.HasSuffix(path, "/"):
		rest = `(.*)?`
	}
	// A blank would end the expression.
	quoted := strings.ReplaceAll(regexp.QuoteMeta(path), " ", `\x20`)
	return "^" + host(one) + `\.?(:[0-9]+)?` + quoted + rest + "$"
}

func fileName(one *served, kind string) string {
	return fmt.Sprintf("%s.%s.%s.pem", kind, one.route.Namespace, one.route.Name)
}

func choose[T any](first bool, a, b T) T {
	if first {
		return a
	}
	return b
}
