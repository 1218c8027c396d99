package stack

import (
	"fmt"

	"github.com/openova-io/bp-relay/services/dev/part"
)

// PortTakenError reports that a port which a part needs is in use.
type PortTakenError struct {
	Part part.Name
	Port Port
	// Owner is the process that has it ("nginx, pid 812"), or "" if unknown.
	Owner string
}

func (e *PortTakenError) Error() string {
	by := "another process"
	if e.Owner != "" {
		by = e.Owner
	}
	proto := "TCP"
	if e.Port.UDP {
		proto = "UDP"
	}
	s := fmt.Sprintf("%s port %d on 127.0.0.1 (%s of %s) is taken by %s: stop it", proto, e.Port.Number, e.Port.Use, e.Part, by)
	if e.Port.Flag != "" {
		s += fmt.Sprintf(" or choose another port with %s", e.Port.Flag)
	}
	return s
}

// AddressError reports that an existing server, given by address, does not
// work as it should.
type AddressError struct {
	Part    part.Name
	Address string
	// Problem says what is wrong and what to do.
	Problem string
	Err     error
}

func (e *AddressError) Error() string {
	return fmt.Sprintf("%s at %s: %s", e.Part, e.Address, e.Problem)
}

func (e *AddressError) Unwrap() error { return e.Err }
