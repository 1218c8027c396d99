package rtc

import (
	"fmt"
	"io"

	"github.com/pion/logging"
	"github.com/pion/transport/v4/stdnet"

	"github.com/openova-io/bp-relay/services/rtc/socket"
)

// Engine is what all participants of a process share.
type Engine struct {
	// Reactor reads the participants' sockets. Its owner runs and closes it.
	Reactor     *socket.Reactor
	host        *stdnet.Net // the machine's interfaces and resolver
	certificate *certificate
	log         logging.LoggerFactory
}

// NewEngine makes the rest of what participants share: the list of network
// interfaces, as they are now, and a certificate that is valid for a week.
func NewEngine(r *socket.Reactor) (*Engine, error) {
	host, err := stdnet.NewNet()
	if err != nil {
		return nil, fmt.Errorf("network interfaces: %w", err)
	}
	cert, err := newCertificate()
	if err != nil {
		return nil, err
	}
	return &Engine{Reactor: r, host: host, certificate: cert, log: silent()}, nil
}

// silent turns pion's logging off: what matters is returned as an error.
func silent() logging.LoggerFactory {
	return &logging.DefaultLoggerFactory{Writer: io.Discard, DefaultLogLevel: logging.LogLevelDisabled, ScopeLevels: map[string]logging.LogLevel{}}
}
