package engine

import "net/netip"

// Target is what a session connects to: one of the types below, each with the
// parameters of its protocol. There is no free map of parameters, so that
// nothing can be set that has no field.
type Target interface {
	// Protocol is the target's protocol, one of the constants below.
	Protocol() string
}

// ProtocolSSH is a shell on a host (RFC 4254).
const ProtocolSSH = "ssh"

// SSH is a shell on a host.
type SSH struct {
	// Hostname is a name, or an address without brackets.
	Hostname string
	// Address is what Hostname was resolved to, and checked: the engine dials this
	// and never resolves the name again.
	Address netip.Addr
	// Port is 1 to 65535.
	Port     int
	Username string
	// Password and PrivateKey (unencrypted PEM) are the credentials; at least
	// one is set.
	Password, PrivateKey string
	// HostKey is the host's public key as sshd has it in its .pub file
	// ("ssh-rsa AAAA..."); "" accepts any host.
	HostKey string
}

// Protocol returns ProtocolSSH.
func (SSH) Protocol() string { return ProtocolSSH }

// Misfit is a parameter of a target with which an engine cannot reach it.
type Misfit struct {
	// Field is the parameter, by its name in the API: "host_key".
	Field string
	// Why says what does not work, and what does.
	Why string
}

func (e *Misfit) Error() string { return e.Field + ": " + e.Why }
