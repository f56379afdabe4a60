// Command pause is process 1 of a pod's sandbox: it holds the pod's namespaces and reaps.
package main

import (
	"os"
	"os/signal"
	"syscall"
)

func main() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGCHLD)
	for received := range signals {
		if received != syscall.SIGCHLD {
			return
		}
		for {
			pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
			if pid <= 0 || err != nil {
				break
			}
		}
	}
}

func init() {
	if os.Getpid() != 1 {
		os.Stderr.WriteString("pause: warning: not process 1 of a namespace\n")
	}
}
