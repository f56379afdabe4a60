// Command who is both ends of a request in tests of what stands in front of a cluster.
//
//	who serve [-tls FOLDER]   says in JSON who asked what: HTTP/1.1 and HTTP/2 in the clear on 8080
//	                          and, with a certificate (tls.crt, tls.key), over TLS on 8443
//	who ask [flags] URL       asks once, says in JSON what came back
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
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
		fmt.Fprintln(os.Stderr, "usage: who serve|ask …")
		os.Exit(2)
	}
	var err error
	switch os.Args[1] {
	case "serve":
		err = serve(os.Args[2:])
	case "ask":
		err = ask(os.Args[2:])
	default:
		err = fmt.Errorf("%q: serve or ask", os.Args[1])
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
		// ?wait=3s answers late.
		if wait, err := time.ParseDuration(r.URL.Query().Get("wait")); err == nil {
			time.Sleep(wait)
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

func ask(arguments []string) error {
	set := flag.NewFlagSet("ask", flag.ExitOnError)
	connect := set.String("connect", "", "ADDRESS:PORT to connect to, whatever the URL says")
	source := set.String("source", "", "address to connect from")
	ca := set.String("ca", "", "file of the authorities to believe; without it TLS is not verified")
	limit := set.Duration("timeout", 10*time.Second, "how long to wait")
	given := headers{}
	set.Var(given, "header", "NAME: VALUE, several times")
	if err := set.Parse(arguments); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), *limit)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, set.Arg(0), nil)
	if err != nil {
		return err
	}
	request.Header = http.Header(given)
	dialer := net.Dialer{}
	if *source != "" {
		dialer.LocalAddr = &net.TCPAddr{IP: net.ParseIP(*source)}
	}
	config := &tls.Config{InsecureSkipVerify: *ca == ""}
	if *ca != "" {
		text, err := os.ReadFile(*ca)
		if err != nil {
			return err
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(text) {
			return fmt.Errorf("%s holds no certificate", *ca)
		}
	}
	client := http.Client{
		Transport: &http.Transport{
			TLSClientConfig:   config,
			ForceAttemptHTTP2: true,
			DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
				if *connect != "" {
					address = *connect
				}
				return dialer.DialContext(ctx, network, address)
			},
		},
		// What the first answer says is the answer, a redirect too.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
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
