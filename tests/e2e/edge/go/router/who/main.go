// Command who is both ends of a request in tests of what stands in front of a cluster.
//
//	who serve [-tls FOLDER]   says in JSON who asked what: HTTP/1.1 and HTTP/2 in the clear on 8080
//	                          and, with a certificate (tls.crt, tls.key), over TLS on 8443
//	who ask [flags] URL       asks once, says in JSON what came back
//	who load [flags] URL      asks again and again on one connection, as long as it is kept; says in
//	                          JSON how many were asked and what went wrong
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

// wishes are how somebody asks.
type wishes struct {
	connect, source, ca *string
	limit               *time.Duration
	headers             headers
}

func wishesOf(set *flag.FlagSet) *wishes {
	w := &wishes{
		connect: set.String("connect", "", "ADDRESS:PORT to connect to, whatever the URL says"),
		source:  set.String("source", "", "address to connect from"),
		ca:      set.String("ca", "", "file of the authorities to believe; without it TLS is not verified"),
		limit:   set.Duration("timeout", 10*time.Second, "how long to wait for an answer"),
		headers: headers{},
	}
	set.Var(w.headers, "header", "NAME: VALUE, several times")
	return w
}

func (w *wishes) client() (*http.Client, error) {
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
	return &http.Client{
		Timeout: *w.limit,
		Transport: &http.Transport{
			TLSClientConfig:   config,
			ForceAttemptHTTP2: true,
			DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
				if *w.connect != "" {
					address = *w.connect
				}
				return dialer.DialContext(ctx, network, address)
			},
		},
		// What the first answer says is the answer, a redirect too.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}

// once is one question with its whole answer.
func once(client *http.Client, method, url string, given headers) (*http.Response, []byte, error) {
	request, err := http.NewRequest(method, url, nil)
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
	client, err := w.client()
	if err != nil {
		return err
	}
	response, body, err := once(client, http.MethodGet, set.Arg(0), w.headers)
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

// loaded is what came of many questions.
type loaded struct {
	Asked  int            `json:"asked"`
	Protos map[string]int `json:"protos"`
	Failed []string       `json:"failed"`
}

// load asks until its standard input ends. It asks with POST: a GET that is lost with its connection
// would be sent again without a word.
func load(arguments []string) error {
	set := flag.NewFlagSet("load", flag.ExitOnError)
	w := wishesOf(set)
	if err := set.Parse(arguments); err != nil {
		return err
	}
	client, err := w.client()
	if err != nil {
		return err
	}
	ended := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(ended)
	}()
	result := loaded{Protos: map[string]int{}, Failed: []string{}}
	for {
		select {
		case <-ended:
			return json.NewEncoder(os.Stdout).Encode(result)
		case <-time.After(5 * time.Millisecond):
		}
		result.Asked++
		response, _, err := once(client, http.MethodPost, set.Arg(0), w.headers)
		at := time.Now().Format("15:04:05.000 ")
		if err != nil {
			result.Failed = append(result.Failed, at+err.Error())
			continue
		}
		result.Protos[response.Proto]++
		if response.StatusCode != http.StatusOK {
			result.Failed = append(result.Failed, at+response.Status)
		}
	}
}
