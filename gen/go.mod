module github.com/openova-io/bp-relay/gen

go 1.25.0
