package scenario

import (
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"

	"github.com/pion/stun/v3"
)

func (c *check) target() {
	t := c.s.Target
	n := 0
	for _, given := range []bool{t.Local, t.API != nil, t.LiveKit != nil} {
		if given {
			n++
		}
	}
	if n > 1 {
		c.problem("target", "set one of local, api and livekit")
	}
	if a := t.API; a != nil {
		if host, port, err := net.SplitHostPort(a.Address); err != nil || host == "" || port == "" {
			c.problem("target.api.address", "%q: want host:port", a.Address)
		}
		if a.Org == "" {
			c.problem("target.api.org", "is required: rooms are named orgs/{org}/rooms/{room}")
		}
		c.variable("target.api.token_env", a.TokenEnv)
	}
	if t.LiveKit != nil {
		c.livekit(*t.LiveKit)
	}
	for name, program := range t.Processes {
		if name == "" || program == "" || name == "generator" {
			c.problem("target.processes."+name, "want a name with a pid or program: {sfu: livekit-server}; generator is always measured")
		}
	}
	c.url("target.sfu_metrics", t.SFUMetrics, "http", "https")
	c.url("target.turn_metrics", t.TURNMetrics, "http", "https")
}

func (c *check) livekit(l LiveKit) {
	if l.URL == "" {
		c.problem("target.livekit.url", "is required: ws://host:7880")
	}
	c.url("target.livekit.url", l.URL, "ws", "wss", "http", "https")
	c.variable("target.livekit.key_env", l.KeyEnv)
	c.variable("target.livekit.secret_env", l.SecretEnv)
	var served []string
	for i, t := range l.TURN {
		field := fmt.Sprintf("target.livekit.turn[%d]", i)
		if path := c.turn(field, t); path != "" {
			served = append(served, path)
		}
	}
	for i, p := range c.s.Paths {
		if len(l.TURN) > 0 && strings.HasPrefix(p, "turn-") && !slices.Contains(served, p) {
			c.problem(fmt.Sprintf("paths[%d]", i), "no server in target.livekit.turn serves %s", p)
		}
	}
}

// turn checks a server and returns the path that it serves.
func (c *check) turn(field string, t TURN) string {
	uri, err := stun.ParseURI(t.URL)
	if err != nil || (uri.Scheme != stun.SchemeTypeTURN && uri.Scheme != stun.SchemeTypeTURNS) {
		c.problem(field+".url", "%q: want turn:host:port?transport=udp (or tcp), or turns:host:port", t.URL)
		return ""
	}
	tls := uri.Scheme == stun.SchemeTypeTURNS
	if tls && uri.Proto == stun.ProtoTypeUDP {
		c.problem(field+".url", "TURN over DTLS is not supported: write turns: without transport=udp")
		return ""
	}
	if !tls && (t.CAFile != "" || t.Insecure) {
		c.problem(field, "ca_file and insecure are for turns: only")
	}
	switch {
	case t.CredentialEnv != "" && t.SecretEnv != "":
		c.problem(field, "set credential_env (with username) or secret_env, not both")
	case t.CredentialEnv != "":
		c.variable(field+".credential_env", t.CredentialEnv)
		if t.Username == "" {
			c.problem(field+".username", "credential_env requires it")
		}
	case t.SecretEnv != "":
		c.variable(field+".secret_env", t.SecretEnv)
	default:
		c.problem(field, "set the name of the variable that holds the credential (credential_env, with username) or the shared secret (secret_env)")
	}
	switch {
	case tls:
		return TURNTLS
	case uri.Proto == stun.ProtoTypeTCP:
		return TURNTCP
	}
	return TURNUDP
}

// url checks a URL that may be empty. It refuses user info, which would be a secret
// in a file.
func (c *check) url(field, text string, schemes ...string) {
	if text == "" {
		return
	}
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "" || !slices.Contains(schemes, u.Scheme):
		c.problem(field, "want a URL that begins with %s://", strings.Join(schemes, ":// or "))
	case u.User != nil:
		c.problem(field, "contains a user or password: a scenario must not hold secrets")
	}
}

// variable checks the name of an environment variable. The error does not repeat
// it, since it may be a secret put there by mistake.
func (c *check) variable(field, name string) {
	ok := name != "" && len(name) <= 100 && (name[0] < '0' || name[0] > '9')
	for _, r := range name {
		ok = ok && (r == '_' || r >= '0' && r <= '9' || r >= 'A' && r <= 'Z')
	}
	if !ok {
		c.problem(field, "want the name of an environment variable, of A-Z, 0-9 and _: a scenario must not hold secrets")
	}
}
