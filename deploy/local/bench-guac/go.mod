// The baseline "wwt/guac" of make bench: a Guacamole tunnel that records nothing.
module github.com/openova-io/bp-relay/deploy/local/bench-guac

go 1.26.0

require (
	github.com/sirupsen/logrus v1.9.3
	github.com/wwt/guac v1.3.2
)

require (
	github.com/google/uuid v1.1.1 // indirect
	github.com/gorilla/websocket v1.4.1 // indirect
	golang.org/x/sys v0.0.0-20220715151400-c0bba94af5f8 // indirect
)
