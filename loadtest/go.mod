module github.com/openova-io/bp-relay/loadtest

go 1.26.0
