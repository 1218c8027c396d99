package guac

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	_ "time/tzdata" // the names of time zones, where the machine has none
	"unicode/utf8"
)

// MaxSide is the longest side of a screen in pixels (guacd's
// GUAC_DISPLAY_MAX_WIDTH).
const MaxSide = 8192

// Params are a target's parameters by guacd's own names. A name that is not
// here is sent as ”. They are made from typed definitions (SSH) and a few
// bounded wishes of the client (Appearance), never from a map that a caller
// filled: hostname, recording-path, command, ignore-cert and the like cannot
// be set by anyone but the definition, because nothing else has a field for
// them.
type Params map[string]string

// SSH is a shell on a target.
type SSH struct {
	// Hostname is a name or an address without brackets.
	Hostname string
	// Port is 1 to 65535; 0 means 22.
	Port int
	// Username at the target.
	Username string
	// Password, PrivateKey (PEM) and Passphrase are the credentials that the
	// definition has; what is empty is not sent.
	Password, PrivateKey, Passphrase string
	// HostKey is the target's public key as sshd has it in its .pub file:
	// "ssh-rsa AAAA...". Without it guacd would connect to anyone.
	HostKey string
	// DisableCopy keeps the target's clipboard from the browser; DisablePaste
	// keeps the browser's from the target.
	DisableCopy, DisablePaste bool
}

// Params names the values as guacd's ssh settings do (protocols/ssh/settings.c).
func (t SSH) Params() Params {
	p := Params{
		"hostname": t.Hostname, "port": strconv.Itoa(t.Port), "username": t.Username,
		"password": t.Password, "private-key": t.PrivateKey, "passphrase": t.Passphrase,
		// A session with nobody typing must still notice a dead target. guacd
		// also looks for a logout no more often than this (ssh.c).
		"server-alive-interval": "2",
	}
	if t.Port == 0 {
		p["port"] = "22"
	}
	if t.HostKey != "" {
		// One line of an OpenSSH known_hosts file (common-ssh/key.c).
		p["host-key"] = t.Hostname + " " + t.HostKey
	}
	if t.DisableCopy {
		p["disable-copy"] = "true"
	}
	if t.DisablePaste {
		p["disable-paste"] = "true"
	}
	return p
}

// Screen is what the client says about itself in the handshake. Check must
// have passed before it is used.
type Screen struct {
	// Width and Height are in pixels, 1 to MaxSide; DPI is 1 to 1000.
	Width, Height, DPI int
	// Audio, Video and Image are the mime types the client can take, at most
	// 16 of each.
	Audio, Video, Image []string
	// Timezone is a name of the IANA database, or "".
	Timezone string
	// Name is shown to other users of the session, or ""; protocol >= 1.5.0.
	Name string
}

// ErrScreen says that what the client says about itself is out of bounds.
var ErrScreen = errors.New("guac: bad screen")

// Check enforces the bounds.
func (s Screen) Check() error {
	switch {
	case s.Width < 1 || s.Width > MaxSide || s.Height < 1 || s.Height > MaxSide:
		return fmt.Errorf("%w: width and height must be 1 to %d", ErrScreen, MaxSide)
	case s.DPI < 1 || s.DPI > 1000:
		return fmt.Errorf("%w: dpi must be 1 to 1000", ErrScreen)
	case len(s.Name) > 256 || !utf8.ValidString(s.Name) || strings.ContainsRune(s.Name, 0):
		return fmt.Errorf("%w: name must be at most 256 bytes of UTF-8", ErrScreen)
	case !knownZone(s.Timezone):
		return fmt.Errorf("%w: timezone must be a name like Europe/Berlin", ErrScreen)
	}
	for _, list := range [][]string{s.Audio, s.Video, s.Image} {
		if len(list) > 16 {
			return fmt.Errorf("%w: more than 16 mime types", ErrScreen)
		}
		if slices.ContainsFunc(list, func(m string) bool { return !isMimetype([]byte(m)) }) {
			return fmt.Errorf("%w: malformed mime type", ErrScreen)
		}
	}
	return nil
}

// knownZone keeps "Local" and paths out: guacd hands the name to a child's
// environment.
func knownZone(name string) bool {
	if name == "" {
		return true
	}
	if len(name) > 64 || name == "Local" {
		return false
	}
	_, err := time.LoadLocation(name)
	return err == nil
}

// ClientArgv says whether a client may change this parameter of a running
// session: only what concerns its own terminal's looks. guacd would also take
// rdp and vnc credentials while it waits for "required"; those are answered
// from the definition.
func ClientArgv(protocol, name string) bool {
	switch protocol {
	case "ssh", "telnet", "kubernetes":
		return name == "color-scheme" || name == "font-name" || name == "font-size"
	}
	return false
}
