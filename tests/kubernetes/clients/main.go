// Clients as real controllers are made of, which say what they see: one JSON object a line, with the seconds of the
// machine's monotonic clock, so that what several of them and the test saw can be put in order.
//
//	clients informer --server https://127.0.0.1:6443 --ca ca.pem --token-file token --namespace lab
//	clients election --server ... --identities a,b
//	clients watch    --endpoint unix:///run/kine.sock --prefix /registry/configmaps/lab/
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/client-go/rest"
)

var mutex sync.Mutex

// say prints one line. A test that has ended the pipe ends the program.
func say(what string, more map[string]any) {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		panic(err)
	}
	line := map[string]any{"what": what, "at": float64(now.Sec) + float64(now.Nsec)/1e9}
	for key, value := range more {
		line[key] = value
	}
	text, err := json.Marshal(line)
	if err != nil {
		panic(err)
	}
	mutex.Lock()
	defer mutex.Unlock()
	if _, err := os.Stdout.Write(append(text, '\n')); err != nil {
		os.Exit(1)
	}
}

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "informer, election or watch?")
		os.Exit(2)
	}
	flags := flag.NewFlagSet(os.Args[1], flag.ExitOnError)
	server := flags.String("server", "", "URL of the API server")
	authority := flags.String("ca", "", "PEM file with the authority of its certificate")
	token := flags.String("token-file", "", "file with the bearer token")
	namespace := flags.String("namespace", "lab", "namespace of the objects")
	every := flags.Duration("list-every", 200*time.Millisecond, "informer: time between two lists")
	identities := flags.String("identities", "", "election: candidates, separated by commas")
	lease := flags.Duration("lease", 6*time.Second, "election: how long the others wait")
	renew := flags.Duration("renew", 3*time.Second, "election: how long the holder tries")
	retry := flags.Duration("retry", 500*time.Millisecond, "election: time between two attempts")
	endpoint := flags.String("endpoint", "", "watch: etcd endpoint")
	prefix := flags.String("prefix", "", "watch: prefix of the keys")
	if err := flags.Parse(os.Args[2:]); err != nil {
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	config := &rest.Config{
		Host:            *server,
		BearerTokenFile: *token,
		TLSClientConfig: rest.TLSClientConfig{CAFile: *authority},
		QPS:             -1,
		Timeout:         0,
	}
	var err error
	switch os.Args[1] {
	case "informer":
		err = inform(ctx, config, *namespace, *every)
	case "election":
		err = elect(ctx, config, *namespace, strings.Split(*identities, ","), *lease, *renew, *retry)
	case "watch":
		err = watch(ctx, *endpoint, *prefix)
	default:
		err = fmt.Errorf("%q is none of informer, election, watch", os.Args[1])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
