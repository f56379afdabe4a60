// Command forward carries connections from a listening socket that it inherits as standard input
// to an address that it dials itself. A socket belongs to the network namespace that it was made
// in: with a listener made outside and this process inside, nothing has to change namespaces.
package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"time"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: forward ADDRESS:PORT, with a listening socket as standard input")
		os.Exit(2)
	}
	listener, err := net.FileListener(os.Stdin)
	if err != nil {
		fmt.Fprintln(os.Stderr, "forward: standard input is no listening socket:", err)
		os.Exit(1)
	}
	for {
		outside, err := listener.Accept()
		if err != nil {
			fmt.Fprintln(os.Stderr, "forward:", err)
			os.Exit(1)
		}
		go carry(outside.(*net.TCPConn), os.Args[1])
	}
}

func carry(outside *net.TCPConn, target string) {
	defer outside.Close()
	dialed, err := net.DialTimeout("tcp", target, 10*time.Second)
	if err != nil {
		// A reset tells the client that nobody answered; an orderly end would look like an
		// empty answer of the target.
		fmt.Fprintln(os.Stderr, "forward:", err)
		_ = outside.SetLinger(0)
		return
	}
	inside := dialed.(*net.TCPConn)
	defer inside.Close()
	done := make(chan struct{}, 2)
	half := func(to, from *net.TCPConn) {
		_, _ = io.Copy(to, from)
		_ = to.CloseWrite()
		done <- struct{}{}
	}
	go half(inside, outside)
	go half(outside, inside)
	<-done
	<-done
}
