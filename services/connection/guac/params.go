package guac

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	_ "time/tzdata" // time zones, for machines without a database
	"unicode/utf8"
)

// MaxSide is the longest side of a screen in pixels (guacd's
// GUAC_DISPLAY_MAX_WIDTH).
const MaxSide = 8192

// Locale is what a shell's LANG says, if the target accepts it: characters are
// UTF-8 on the way and in the recording. Every glibc since 2.35, and every Debian,
// has this locale.
const Locale = "C.UTF-8"

// Params are a target's parameters by guacd's names. A missing name is sent as
// "". Params are made from typed definitions (SSH), never from a map that a caller
// filled: a caller cannot set hostname, recording-path, command, ignore-cert and
// the like, because it has no field for them.
type Params map[string]string

// SSH is a shell on a target.
type SSH struct {
	// Hostname is a name or an address without brackets.
	Hostname string
	// Port is 1 to 65535; 0 means 22.
	Port int
	// Username at the target.
	Username string
	// Password, PrivateKey (PEM) and Passphrase are the credentials; "" means
	// none.
	Password, PrivateKey, Passphrase string
	// HostKey is the target's public key as sshd has it in its .pub file:
	// "ssh-rsa AAAA...". Without it guacd connects to any host that answers.
	HostKey string
	// DisableCopy keeps the target's clipboard from the browser; DisablePaste
	// keeps the browser's from the target.
	DisableCopy, DisablePaste bool
}

// Params returns the values by the names of protocols/ssh/settings.c.
func (t SSH) Params() Params {
	p := Params{
		"hostname": t.Hostname, "port": strconv.Itoa(t.Port), "username": t.Username,
		"password": t.Password, "private-key": t.PrivateKey, "passphrase": t.Passphrase,
		// An idle session must also notice a dead target. guacd checks for a
		// logout at this interval (ssh.c).
		"server-alive-interval": "2",
		"locale":                Locale,
		// guacd since 1.6 gives up a connection attempt after this many seconds;
		// guacd since 1.6.1 keeps as much of a paste, in bytes.
		"timeout":       "10",
		clipboardBuffer: strconv.Itoa(bigClipboard),
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

// clipboardBuffer is the parameter for the most bytes of a paste. A guacd that does
// not ask for it keeps smallClipboard bytes and cuts the rest off
// (common/clipboard.c).
const (
	clipboardBuffer = "clipboard-buffer-size"
	smallClipboard  = 262_144
	bigClipboard    = 8 << 20
)

// Screen is what the client says about itself in the handshake. Call Check before
// using it.
type Screen struct {
	// Width and Height are in pixels, 1 to MaxSide; DPI is 1 to 1000. Bounds.Screen
	// brings what a browser says within what guacd can draw.
	Width, Height, DPI int
	// Audio, Video and Image are the MIME types that the client accepts, at most
	// 16 of each.
	Audio, Video, Image []string
	// Timezone is a name of the IANA database, or "".
	Timezone string
	// Name is shown to other users of the session (protocol 1.5.0), or "".
	Name string
}

// ErrScreen: a value of a Screen is out of bounds.
var ErrScreen = errors.New("guac: bad screen")

// Check checks the bounds. Its error wraps ErrScreen.
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

// knownZone reports whether name is a time zone. It refuses "Local" and paths,
// since guacd passes the name to a child's environment.
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

// ClientArgv reports whether a client may change this parameter of a running
// session: only the appearance of its terminal. guacd would also accept RDP and
// VNC credentials while it waits for "required"; the broker answers those from
// the definition.
func ClientArgv(protocol, name string) bool {
	switch protocol {
	case "ssh", "telnet", "kubernetes":
		return name == "color-scheme" || name == "font-name" || name == "font-size"
	}
	return false
}
