// Command who is both ends of a request in tests of what stands in front of a cluster.
//
//	who serve [-tls FOLDER]   says in JSON who asked what: HTTP/1.1 and HTTP/2 in the clear on 8080
//	                          and, with a certificate (tls.crt, tls.key), over TLS on 8443
//	who ask [flags] URL       asks once, says in JSON what came back
//	who load [flags] URL      asks again and again, says in JSON what came of it (load.go)
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"
)

// asked is what a backend saw.
type asked struct {
	Pod     string      `json:"pod"`
	Peer    string      `json:"peer"`
	TLS     bool        `json:"tls"`
	Proto   string      `json:"proto"`
	Method  string      `json:"method"`
	Host    string      `json:"host"`
	Path    string      `json:"path"`
	Headers http.Header `json:"headers"`
}

// answered is what a client got.
type answered struct {
	Status  int             `json:"status"`
	Proto   string          `json:"proto"`
	Headers http.Header     `json:"headers"`
	Body    json.RawMessage `json:"body"`
}

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: who serve|ask|load …")
		os.Exit(2)
	}
	var err error
	switch os.Args[1] {
	case "serve":
		err = serve(os.Args[2:])
	case "ask":
		err = ask(os.Args[2:])
	case "load":
		err = load(os.Args[2:])
	default:
		err = fmt.Errorf("%q: serve, ask or load", os.Args[1])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "who:", err)
		os.Exit(1)
	}
}

func serve(arguments []string) error {
	set := flag.NewFlagSet("serve", flag.ExitOnError)
	folder := set.String("tls", "", "folder of the certificate")
	if err := set.Parse(arguments); err != nil {
		return err
	}
	answer := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// ?delay=3s answers late.
		if delay, err := time.ParseDuration(r.URL.Query().Get("delay")); err == nil {
			time.Sleep(delay)
		}
		peer, _, _ := net.SplitHostPort(r.RemoteAddr)
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(asked{os.Getenv("POD_NAME"), peer, r.TLS != nil, r.Proto, r.Method, r.Host, r.URL.Path, r.Header})
	})
	clear := new(http.Protocols)
	clear.SetHTTP1(true)
	clear.SetUnencryptedHTTP2(true)
	ended := make(chan error, 2)
	go func() { ended <- (&http.Server{Addr: ":8080", Handler: answer, Protocols: clear}).ListenAndServe() }()
	if *folder != "" {
		at := func(name string) string { return filepath.Join(*folder, name) }
		go func() {
			ended <- (&http.Server{Addr: ":8443", Handler: answer}).ListenAndServeTLS(at("tls.crt"), at("tls.key"))
		}()
	}
	return <-ended
}

type headers http.Header

func (h headers) String() string { return "" }

func (h headers) Set(text string) error {
	name, value, found := strings.Cut(text, ":")
	if !found {
		return fmt.Errorf("%q is no NAME: VALUE", text)
	}
	http.Header(h).Add(name, strings.TrimSpace(value))
	return nil
}

// wishes are how somebody asks.
type wishes struct {
	connect, source, ca *string
	http, claim         *string
	proxy               *int
	limit               *time.Duration
	headers             headers
}

func wishesOf(set *flag.FlagSet) *wishes {
	w := &wishes{
		connect: set.String("connect", "", "ADDRESS:PORT to connect to, whatever the URL says"),
		source:  set.String("source", "", "address to connect from"),
		ca:      set.String("ca", "", "file of the authorities to believe; without it TLS is not verified"),
		http:    set.String("http", "", "version, 1.1 or 2 (without TLS: with prior knowledge); else as the server offers"),
		proxy:   set.Int("proxy", 0, "begin connections with a PROXY header of this version, 1 or 2"),
		claim:   set.String("claim", "", "the client that the PROXY header names, ADDRESS:PORT"),
		limit:   set.Duration("timeout", 10*time.Second, "how long to wait for an answer"),
		headers: headers{},
	}
	set.Var(w.headers, "header", "NAME: VALUE, several times")
	return w
}

// transport makes connections as wished; made counts them.
func (w *wishes) transport(made *atomic.Int64) (*http.Transport, error) {
	dialer := net.Dialer{}
	if *w.source != "" {
		dialer.LocalAddr = &net.TCPAddr{IP: net.ParseIP(*w.source)}
	}
	config := &tls.Config{InsecureSkipVerify: *w.ca == ""}
	if *w.ca != "" {
		text, err := os.ReadFile(*w.ca)
		if err != nil {
			return nil, err
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("%s holds no certificate", *w.ca)
		}
	}
	protocols := new(http.Protocols)
	switch *w.http {
	case "":
		protocols.SetHTTP1(true)
		protocols.SetHTTP2(true)
	case "1.1":
		protocols.SetHTTP1(true)
	case "2":
		protocols.SetHTTP2(true)
		protocols.SetUnencryptedHTTP2(true)
	default:
		return nil, fmt.Errorf("HTTP/%s: 1.1 or 2", *w.http)
	}
	begin, err := proxyHeader(*w.proxy, *w.claim)
	if err != nil {
		return nil, err
	}
	return &http.Transport{
		TLSClientConfig: config,
		Protocols:       protocols,
		// Whoever waits for clients to leave need not wait for those that have nothing to ask.
		IdleConnTimeout: 2 * time.Second,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			if *w.connect != "" {
				address = *w.connect
			}
			made.Add(1)
			connection, err := dialer.DialContext(ctx, network, address)
			if err != nil || len(begin) == 0 {
				return connection, err
			}
			_, err = connection.Write(begin)
			return connection, err
		},
	}, nil
}

// proxyHeader is a header of the PROXY protocol, as a load balancer would send it for this client.
func proxyHeader(version int, claim string) ([]byte, error) {
	if version == 0 {
		return nil, nil
	}
	client, err := netip.ParseAddrPort(claim)
	if err != nil || !client.Addr().Is4() {
		return nil, fmt.Errorf("-claim %q is no IPv4 address with a port", claim)
	}
	server := netip.MustParseAddrPort("198.18.0.1:80")
	switch version {
	case 1:
		return fmt.Appendf(nil, "PROXY TCP4 %s %s %d %d\r\n", client.Addr(), server.Addr(), client.Port(), server.Port()), nil
	case 2:
		// The signature, version 2 and the command PROXY, TCP over IPv4, the length of the rest.
		header := []byte("\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c")
		header = append(header, client.Addr().AsSlice()...)
		header = append(header, server.Addr().AsSlice()...)
		header = binary.BigEndian.AppendUint16(header, client.Port())
		return binary.BigEndian.AppendUint16(header, server.Port()), nil
	}
	return nil, fmt.Errorf("PROXY protocol version %d: 1 or 2", version)
}

// client is who asks over it.
func (w *wishes) client(transport *http.Transport) *http.Client {
	return &http.Client{
		Timeout:   *w.limit,
		Transport: transport,
		// What the first answer says is the answer, a redirect too.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// once is one question with its whole answer.
func once(ctx context.Context, client *http.Client, method, url string, given headers) (*http.Response, []byte, error) {
	request, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		return nil, nil, err
	}
	request.Header = http.Header(given).Clone()
	response, err := client.Do(request)
	if err != nil {
		return nil, nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return response, body, err
}

func ask(arguments []string) error {
	set := flag.NewFlagSet("ask", flag.ExitOnError)
	w := wishesOf(set)
	if err := set.Parse(arguments); err != nil {
		return err
	}
	transport, err := w.transport(new(atomic.Int64))
	if err != nil {
		return err
	}
	response, body, err := once(context.Background(), w.client(transport), http.MethodGet, set.Arg(0), w.headers)
	if err != nil {
		return err
	}
	if !json.Valid(body) {
		if body, err = json.Marshal(string(body)); err != nil {
			return err
		}
	}
	return json.NewEncoder(os.Stdout).Encode(answered{response.StatusCode, response.Proto, response.Header, body})
}
