// Command probe asks one question from inside a pod, where images hold no shell:
//
//	probe wait                  does nothing until it is told to stop (a pod to exec into)
//	probe http://HOST[:PORT]/P  one GET: prints the status and the body
//	probe tcp://HOST:PORT       one connection
//	probe dns://NAME            the addresses of a name
//
// It exits with 0 when there was an answer (any HTTP status), else with 1 and the reason.
package main

import (
	"context"
	"crypto/tls"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	timeout := flag.Duration("timeout", 3*time.Second, "how long to wait for the answer")
	host := flag.String("host", "", "Host header and TLS server name, if not the URL's")
	insecure := flag.Bool("insecure", false, "accept any certificate")
	flag.Parse()
	if flag.NArg() != 1 {
		flag.Usage()
		os.Exit(2)
	}
	if flag.Arg(0) == "wait" {
		signals := make(chan os.Signal, 1)
		signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
		<-signals
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), *timeout)
	defer cancel()
	if err := ask(ctx, flag.Arg(0), *host, *insecure); err != nil {
		fmt.Fprintln(os.Stderr, "probe:", err)
		os.Exit(1)
	}
}

func ask(ctx context.Context, target, host string, insecure bool) error {
	parsed, err := url.Parse(target)
	if err != nil {
		return err
	}
	switch parsed.Scheme {
	case "tcp":
		connection, err := new(net.Dialer).DialContext(ctx, "tcp", parsed.Host)
		if err != nil {
			return err
		}
		fmt.Println(connection.RemoteAddr())
		return connection.Close()
	case "dns":
		addresses, err := net.DefaultResolver.LookupHost(ctx, parsed.Host)
		for _, address := range addresses {
			fmt.Println(address)
		}
		return err
	case "http", "https":
		return get(ctx, target, host, insecure)
	}
	return fmt.Errorf("scheme %q: want http, https, tcp or dns", parsed.Scheme)
}

func get(ctx context.Context, target, host string, insecure bool) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return err
	}
	request.Host = host
	client := http.Client{
		Transport: &http.Transport{
			TLSClientConfig: &tls.Config{ServerName: host, InsecureSkipVerify: insecure},
		},
		// What the first answer says is the answer, a redirect too.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	fmt.Println(response.StatusCode)
	_, err = io.Copy(os.Stdout, response.Body)
	return err
}
