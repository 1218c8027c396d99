package local

import (
	"context"
	"errors"
	"net"
	"os"
	"syscall"
)

// unreachable says in a few words why a server could not be asked.
func unreachable(err error) string {
	var dns *net.DNSError
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "nothing listens there: start it or check the address"
	case errors.As(err, &dns):
		return "the host " + dns.Name + " is not known: check the address"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return "it does not answer in time: check the address and that it runs"
	}
	return "it cannot be reached: " + err.Error()
}
