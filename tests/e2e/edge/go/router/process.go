package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// haproxy is the process that serves: a master that keeps the listening sockets and a worker with a
// configuration. A reload is a new worker that takes the sockets over; the old one finishes what it
// has begun.
type haproxy struct {
	program, dir, certificate string
	command                   *exec.Cmd
	ended                     chan error
	loaded                    string
}

func (h *haproxy) pem() string { return filepath.Join(h.dir, "default.pem") }

// authority is what OpenShift's service-ca is there. Where the cluster has none, it is a file that
// nothing is certified by, so no pod is believed.
func (h *haproxy) authority() string {
	given := filepath.Join(h.certificate, "service-ca.crt")
	if _, err := os.Stat(given); err == nil {
		return given
	}
	return h.pem()
}

// current is a link to the folder of the configuration in force.
func (h *haproxy) current() string { return filepath.Join(h.dir, "current") }

// start serves these Routes, and says when HAProxy has ended.
func (h *haproxy) start(ctx context.Context, routes []served) (<-chan error, error) {
	if err := os.MkdirAll(h.dir, 0o700); err != nil {
		return nil, err
	}
	var pair []byte
	for _, name := range []string{"tls.crt", "tls.key"} {
		text, err := os.ReadFile(filepath.Join(h.certificate, name))
		if err != nil {
			return nil, fmt.Errorf("the default certificate: %w", err)
		}
		pair = append(append(pair, text...), '\n')
	}
	if err := os.WriteFile(h.pem(), pair, 0o600); err != nil {
		return nil, err
	}
	first := render(routes, h.current(), h.dir, h.pem(), h.authority())
	generation, err := h.write(first)
	if err != nil {
		return nil, err
	}
	h.command = exec.Command(h.program, "-W", "-f", filepath.Join(h.current(), "haproxy.cfg"))
	h.command.Stdout, h.command.Stderr = os.Stdout, os.Stderr
	// It lets what is under way finish; we tell it to end.
	h.command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := h.command.Start(); err != nil {
		return nil, err
	}
	h.ended = make(chan error, 1)
	go func() { h.ended <- h.command.Wait() }()
	if err := answers(ctx, generation); err != nil {
		_ = h.command.Process.Kill()
		return nil, err
	}
	h.loaded = first.digest()
	return h.ended, nil
}

func (h *haproxy) stop() error {
	_ = h.command.Process.Signal(syscall.SIGUSR1)
	select {
	case <-h.ended:
	case <-time.After(20 * time.Second):
		_ = h.command.Process.Kill()
	}
	return nil
}

// load puts a configuration in force, unless it is. One that HAProxy does not take changes nothing.
func (h *haproxy) load(ctx context.Context, routes []served) error {
	next := render(routes, h.current(), h.dir, h.pem(), h.authority())
	if next.digest() == h.loaded {
		return nil
	}
	// The check reads the files where they will not stay.
	trial := filepath.Join(h.dir, "trial")
	if err := put(trial, render(routes, trial, h.dir, h.pem(), h.authority())); err != nil {
		return err
	}
	told, err := exec.CommandContext(ctx, h.program, "-c", "-f", filepath.Join(trial, "haproxy.cfg")).CombinedOutput()
	if err != nil {
		return fmt.Errorf("HAProxy refuses its configuration: %s", told)
	}
	generation, err := h.write(next)
	if err != nil {
		return err
	}
	if err := h.command.Process.Signal(syscall.SIGUSR2); err != nil {
		return err
	}
	if err := answers(ctx, generation); err != nil {
		return err
	}
	h.loaded = next.digest()
	return nil
}

// write makes a folder of files the one in force; what it returns is what the worker will say.
func (h *haproxy) write(next files) (string, error) {
	folder := filepath.Join(h.dir, "of-"+next.digest())
	if err := put(folder, next); err != nil {
		return "", err
	}
	old, _ := os.Readlink(h.current())
	link := h.current() + ".new"
	_ = os.Remove(link)
	if err := os.Symlink(filepath.Base(folder), link); err != nil {
		return "", err
	}
	if err := os.Rename(link, h.current()); err != nil {
		return "", err
	}
	if old != "" && old != filepath.Base(folder) {
		// A worker has read all of its files when it starts.
		_ = os.RemoveAll(filepath.Join(h.dir, old))
	}
	text := next["haproxy.cfg"]
	words := strings.Fields(text)
	return words[len(words)-1], nil
}

func put(folder string, all files) error {
	if err := os.RemoveAll(folder); err != nil {
		return err
	}
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	for name, text := range all {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// answers waits until the worker of a configuration serves.
func answers(ctx context.Context, generation string) error {
	client := http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	url := fmt.Sprintf("http://127.0.0.1:%d/", healthPort)
	said := "nothing"
	for begun := time.Now(); time.Since(begun) < 10*time.Second; time.Sleep(50 * time.Millisecond) {
		response, err := client.Get(url)
		if err != nil {
			said = err.Error()
			continue
		}
		body, _ := io.ReadAll(io.LimitReader(response.Body, 100))
		_ = response.Body.Close()
		if said = string(body); said == generation {
			return nil
		}
	}
	return fmt.Errorf("HAProxy does not serve %s; it says %s", generation, said)
}
