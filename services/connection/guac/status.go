package guac

import (
	"fmt"
	"strconv"
)

// Status is a Guacamole status code: how a session or a stream ended. The tunnel
// sends it in decimal as the close frame's reason, where guacamole-common-js
// reads it.
type Status uint16

// The status codes of guacamole/protocol-types.h.
const (
	Success             Status = 0x0000
	Unsupported         Status = 0x0100
	ServerError         Status = 0x0200
	ServerBusy          Status = 0x0201
	UpstreamTimeout     Status = 0x0202
	UpstreamError       Status = 0x0203
	ResourceNotFound    Status = 0x0204
	ResourceConflict    Status = 0x0205
	ResourceClosed      Status = 0x0206
	UpstreamNotFound    Status = 0x0207
	UpstreamUnavailable Status = 0x0208
	SessionConflict     Status = 0x0209
	SessionTimeout      Status = 0x020A
	SessionClosed       Status = 0x020B
	ClientBadRequest    Status = 0x0300
	ClientUnauthorized  Status = 0x0301
	ClientForbidden     Status = 0x0303
	ClientTimeout       Status = 0x0308
	ClientOverrun       Status = 0x030D
	ClientBadType       Status = 0x030F
	ClientTooMany       Status = 0x031D
)

// ParseStatus reads the decimal code of an "error" or "ack" instruction. It
// returns ServerError if b is malformed.
func ParseStatus(b []byte) Status {
	if v, ok := Int(b); ok && v >= 0 && v <= 0xFFFF {
		return Status(v)
	}
	return ServerError
}

// Decimal returns the status as the protocol writes it.
func (s Status) Decimal() string { return strconv.Itoa(int(s)) }

// WebSocketCode returns the matching close code (RFC 6455, section 7.4.1), as
// GuacamoleStatus.java maps it.
func (s Status) WebSocketCode() uint16 {
	switch s {
	case Success:
		return 1000
	case ResourceNotFound, ResourceClosed, SessionTimeout, SessionClosed, ClientBadRequest, ClientTimeout:
		return 1002
	case ClientBadType:
		return 1003
	case ServerBusy, ResourceConflict, SessionConflict, ClientUnauthorized, ClientForbidden, ClientTooMany:
		return 1008
	case ClientOverrun:
		return 1009
	default:
		return 1011
	}
}

func (s Status) String() string { return fmt.Sprintf("0x%04X", uint16(s)) }

// StatusError is an "error" instruction: guacd's message and status.
type StatusError struct {
	Status  Status
	Message string
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("guacd: %s (status %s)", e.Message, e.Status)
}

// AsStatusError reads an "error" instruction. A missing or malformed code becomes
// ServerError.
func AsStatusError(in *Instruction) *StatusError {
	return &StatusError{Status: ParseStatus(in.Arg(1)), Message: string(in.Arg(0))}
}
