#!/bin/sh
# Stands in for `go install github.com/k3s-io/kine@...`: the program was built beforehand.
mkdir -p /go/bin && cp /kine /go/bin/kine
