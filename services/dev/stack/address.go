package stack

import (
	"context"
	"errors"
	"net"
	"os"
	"syscall"
)

// unreachable says in a few words why a server could not be reached, and what
// to do.
func unreachable(err error) string {
	var dns *net.DNSError
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "nothing listens there: start it or check the address"
	case errors.As(err, &dns):
		return "the host " + dns.Name + " is unknown: check the address"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return "it does not answer in time: check the address and that it runs"
	}
	return "it cannot be reached: " + err.Error()
}
