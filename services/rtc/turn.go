package rtc

import (
	"errors"
	"fmt"

	"github.com/pion/stun/v3"
)

// The paths of media to LiveKit: directly over UDP, or through a TURN server (RFC
// 8656) that is reached over UDP, TCP or TLS.
const (
	Direct  = "direct"
	TURNUDP = "turn-udp"
	TURNTCP = "turn-tcp"
	TURNTLS = "turn-tls"
)

// TURN is a TURN server with the credentials of one participant.
type TURN struct {
	// URL is as in RFC 7065: "turn:host:port?transport=udp", "turns:host:port".
	URL                  string
	Username, Credential string
}

// ErrTURN means that a path through TURN has no TURN server of its kind.
var ErrTURN = errors.New("rtc: no TURN server for this path")

// TURNPath returns the path that a TURN server's URL (RFC 7065) is for, or "" if
// there is none: it is not a TURN URL, or it is for DTLS.
func TURNPath(url string) string {
	u, err := stun.ParseURI(url)
	if err != nil {
		return ""
	}
	switch {
	case u.Scheme == stun.SchemeTypeTURN && u.Proto == stun.ProtoTypeUDP:
		return TURNUDP
	case u.Scheme == stun.SchemeTypeTURN && u.Proto == stun.ProtoTypeTCP:
		return TURNTCP
	case u.Scheme == stun.SchemeTypeTURNS && u.Proto == stun.ProtoTypeTCP:
		return TURNTLS
	}
	return ""
}

// TURNHost returns the host in a TURN server's URL, or [ErrTURN].
func TURNHost(url string) (string, error) {
	u, err := stun.ParseURI(url)
	if err != nil {
		return "", fmt.Errorf("%w: %q", ErrTURN, url)
	}
	return u.Host, nil
}

// uri is the server as ICE gets it, always over UDP: package socket does TCP and TLS
// below ICE.
func (t TURN) uri() (*stun.URI, error) {
	u, err := stun.ParseURI(t.URL)
	if err != nil || TURNPath(t.URL) == "" {
		return nil, fmt.Errorf("%w: %q", ErrTURN, t.URL)
	}
	u.Scheme, u.Proto = stun.SchemeTypeTURN, stun.ProtoTypeUDP
	u.Username, u.Password = t.Username, t.Credential
	return u, nil
}
