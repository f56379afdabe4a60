package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptrace"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// loaded is what came of many questions.
type loaded struct {
	Asked       int            `json:"asked"`
	Protos      map[string]int `json:"protos"`
	Failed      []string       `json:"failed"`
	Connections int64          `json:"connections"`
	// Phases says how many of those that began before the first mark, after it, after the second and so
	// on were answered with 200.
	Phases []int `json:"phases"`
	// Shortest is the least time that an answer took, in milliseconds.
	Shortest int64 `json:"shortest"`
}

// load asks until its standard input ends, and then waits for the answers that are still to come. It
// asks at fixed times, whether or not what it asked before is answered. A line of its standard input is a
// mark. Once its first question has been sent it says "asking".
//
// It asks with POST: a GET that is lost with its connection would be sent again without a word. What is
// sent again still is what no server has seen: requests of which nothing was written yet, and those that a
// server of HTTP/2 says it has not processed (RFC 9113, 8.7).
func load(arguments []string) error {
	set := flag.NewFlagSet("load", flag.ExitOnError)
	w := wishesOf(set)
	every := set.Duration("every", 20*time.Millisecond, "time from one question to the next")
	fresh := set.Bool("fresh", false, "ask each on a connection of its own")
	if err := set.Parse(arguments); err != nil {
		return err
	}
	var made atomic.Int64
	transport, err := w.transport(&made)
	if err != nil {
		return err
	}
	transport.DisableKeepAlives = *fresh
	client := w.client(transport)
	marks := make(chan struct{})
	go func() {
		for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
			marks <- struct{}{}
		}
		close(marks)
	}()

	result := loaded{Protos: map[string]int{}, Failed: []string{}, Phases: []int{0}, Shortest: -1}
	var results sync.Mutex
	var first sync.Once
	asking := func() { first.Do(func() { fmt.Println("asking") }) }
	sent := httptrace.WithClientTrace(context.Background(), &httptrace.ClientTrace{
		WroteRequest: func(httptrace.WroteRequestInfo) { asking() },
	})
	question := func(phase int) {
		began := time.Now()
		response, _, err := once(sent, client, http.MethodPost, set.Arg(0), w.headers)
		took := time.Since(began)
		asking()
		if err == nil && response.StatusCode != http.StatusOK {
			err = fmt.Errorf("%s over %s", response.Status, response.Proto)
		}
		results.Lock()
		defer results.Unlock()
		if err != nil {
			said := fmt.Sprintf("%s after %s: %v", began.Format("15:04:05.000"), took.Round(time.Millisecond), err)
			result.Failed = append(result.Failed, said)
			return
		}
		result.Protos[response.Proto]++
		result.Phases[phase]++
		if result.Shortest < 0 || took.Milliseconds() < result.Shortest {
			result.Shortest = took.Milliseconds()
		}
	}
	var questions sync.WaitGroup
	phase := 0
	ask := func() {
		result.Asked++
		now := phase
		questions.Go(func() { question(now) })
	}
	ask()
	times := time.NewTicker(*every)
	for {
		select {
		case <-times.C:
			ask()
		case _, more := <-marks:
			if !more {
				questions.Wait()
				result.Connections = made.Load()
				return json.NewEncoder(os.Stdout).Encode(result)
			}
			phase++
			results.Lock()
			result.Phases = append(result.Phases, 0)
			results.Unlock()
		}
	}
}
