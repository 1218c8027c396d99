package app

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/openova-io/bp-relay/services/internal/auth"
)

// Config is everything that can be configured. It is read from a YAML file,
// overridden by RELAY_* variables, overridden by flags; an unknown key is an
// error. The doc tags are the flags' help.
type Config struct {
	Data     string   `koanf:"data" doc:"folder for records, keys and spool"`
	Services []string `koanf:"services" doc:"which services run in this process: all, or some of room, recording, connection, turn, evidence"`

	Listen struct {
		API   string `koanf:"api" doc:"address of the API, the tunnel and LiveKit's webhooks (gRPC, gRPC-Web, Connect and JSON on one port)"`
		Admin string `koanf:"admin" doc:"address of health, readiness, metrics and profiles (pprof), which need no token: for the operator's network only"`
	} `koanf:"listen"`

	Log struct {
		Level  string `koanf:"level" doc:"debug, info, warn or error"`
		Format string `koanf:"format" doc:"text or json"`
	} `koanf:"log"`

	Keys struct {
		Master string `koanf:"master" doc:"file of the installation's master key, the same for all its processes; master.key in the data folder when empty, made where it is missing"`
	} `koanf:"keys"`

	Auth struct {
		Issuer         string              `koanf:"issuer" doc:"OIDC issuer whose tokens are accepted (Keycloak: https://host/realms/name)"`
		Audience       string              `koanf:"audience" doc:"audience that a token must have"`
		OrgClaim       string              `koanf:"org_claim" doc:"claim that names the caller's organisation"`
		Roles          map[string][]string `koanf:"roles" doc:"role to permissions; replaces the built-in roles"`
		InternalSecret Secret              `koanf:"internal_secret" doc:"shared by all processes of one installation, at least 32 bytes; made at start when one process runs everything"`
	} `koanf:"auth"`

	Store struct {
		Postgres Secret `koanf:"postgres" doc:"PostgreSQL URL; SQLite in the data folder when empty"`
	} `koanf:"store"`

	Bus struct {
		Redis Secret `koanf:"redis" doc:"Redis URL; in this process when empty"`
	} `koanf:"bus"`

	Blob struct {
		Endpoint   string `koanf:"endpoint" doc:"URL of the S3 endpoint (SeaweedFS)"`
		AccessKey  string `koanf:"access_key" doc:"S3 access key"`
		SecretKey  Secret `koanf:"secret_key" doc:"S3 secret key"`
		Recordings string `koanf:"recordings" doc:"bucket for rooms' recordings"`
		Sessions   string `koanf:"sessions" doc:"bucket for sessions' recordings"`
		Evidence   string `koanf:"evidence" doc:"bucket for the evidence log"`
	} `koanf:"blob"`

	LiveKit struct {
		URL       string `koanf:"url" doc:"LiveKit's HTTP address for our own calls"`
		PublicURL string `koanf:"public_url" doc:"LiveKit's WebSocket address for participants; made from url when empty"`
		Key       string `koanf:"key" doc:"LiveKit API key"`
		Secret    Secret `koanf:"secret" doc:"LiveKit API secret, at least 32 characters"`
		Media     string `koanf:"media" doc:"address and UDP ports of the SFU's media, as TURN peers: 127.0.0.1:7882-7882"`
	} `koanf:"livekit"`

	Guacd struct {
		Address string `koanf:"address" doc:"guacd's address"`
	} `koanf:"guacd"`

	Tunnel struct {
		Origins []string `koanf:"origins" doc:"web origins (https://desk.example.com) whose pages may call the API and open tunnels, besides those of the API's own host"`
	} `koanf:"tunnel"`

	Turn struct {
		CDS     string `koanf:"cds" doc:"loopback address that serves stunnerd its config"`
		Gateway string `koanf:"gateway" doc:"name of the gateway that serves every organisation; none when empty"`
		Listen  string `koanf:"listen" doc:"address and UDP port where clients reach that gateway"`
		Health  string `koanf:"health" doc:"loopback address of stunnerd's health endpoint"`
		Metrics string `koanf:"metrics" doc:"loopback address of stunnerd's metrics"`
		Echo    string `koanf:"echo" doc:"address where the probe's echo responder listens, reached by the data plane; probes relay no data when empty"`
	} `koanf:"turn"`

	Evidence struct {
		Origin string `koanf:"origin" doc:"name of the evidence log in its checkpoints; must never change"`
	} `koanf:"evidence"`

	Capture struct {
		MaxSpool int64 `koanf:"max_spool" doc:"bytes that the spool may hold while the object store is away"`
	} `koanf:"capture"`

	// Peers say where services that run elsewhere are.
	Peers struct {
		Room string `koanf:"room" doc:"host:port of the room service when another process runs it"`
		Turn string `koanf:"turn" doc:"host:port of the turn service when another process runs it"`
	} `koanf:"peers"`

	Shutdown time.Duration `koanf:"shutdown" doc:"how long calls may take to finish after a stop"`

	// devIssuer is set by `relay up` only: serve the development issuer.
	devIssuer bool
	// logs is where the log goes; nil means standard error.
	logs io.Writer
}

// Default is the configuration that runs on one machine, once it is told
// where LiveKit, the object store and guacd are.
func Default() Config {
	var c Config
	c.Data = ".local/data"
	c.Services = []string{"all"}
	c.Listen.API = "127.0.0.1:8080"
	c.Listen.Admin = "127.0.0.1:8081"
	c.Log.Level, c.Log.Format = "info", "text"
	c.Auth.Audience, c.Auth.OrgClaim = "bp-relay", "org"
	c.Blob.Recordings, c.Blob.Sessions, c.Blob.Evidence = "livekit-recordings", "guacamole-recordings", "relay-evidence"
	c.LiveKit.URL, c.LiveKit.Media = "http://127.0.0.1:7880", "127.0.0.1:7882-7882"
	c.Guacd.Address = "127.0.0.1:4822"
	c.Turn.CDS, c.Turn.Listen = "127.0.0.1:13478", "127.0.0.1:3478"
	c.Turn.Health, c.Turn.Metrics, c.Turn.Echo = "127.0.0.1:8086", "127.0.0.1:8088", "127.0.0.1:3479"
	c.Capture.MaxSpool = 10 << 30
	c.Shutdown = 10 * time.Second
	return c
}

// Secret is a value that is never printed. "file:/path" stands for the
// file's content without its last line break.
type Secret string

// String hides the value.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return "(secret)"
}

// Reveal returns the value, read from its file where it is one.
func (s Secret) Reveal() (string, error) {
	path, ok := strings.CutPrefix(string(s), "file:")
	if !ok {
		return string(s), nil
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("read secret: %w", err)
	}
	return strings.TrimRight(string(raw), "\r\n"), nil
}

// serviceNames are the services, as flags, configuration and metrics call them.
func serviceNames() []string { return []string{"room", "recording", "connection", "turn", "evidence"} }

// runs says whether this process runs the service.
func (c *Config) runs(service string) bool {
	return slices.Contains(c.Services, "all") || slices.Contains(c.Services, service)
}

// all says whether this process runs every service.
func (c *Config) all() bool {
	return !slices.ContainsFunc(serviceNames(), func(s string) bool { return !c.runs(s) })
}

// Check says what is missing or wrong, all of it at once.
func (c *Config) Check() error {
	var errs []error
	need := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	for _, s := range c.Services {
		need(s == "all" || slices.Contains(serviceNames(), s), "services: no service %q; known are all, %s", s, strings.Join(serviceNames(), ", "))
	}
	need(len(c.Services) > 0, "services: name at least one, or all")
	for _, a := range [][2]string{{"listen.api", c.Listen.API}, {"listen.admin", c.Listen.Admin}} {
		_, _, err := net.SplitHostPort(a[1])
		need(err == nil, "%s: %q is not host:port", a[0], a[1])
	}
	need(c.Auth.Issuer != "", "auth.issuer: set the OIDC issuer's URL (relay up has one of its own)")
	need(c.Blob.Endpoint != "" && c.Blob.AccessKey != "", "blob.endpoint, blob.access_key, blob.secret_key: set the S3 endpoint and its keys")
	if c.runs("room") || c.runs("recording") {
		need(c.LiveKit.Key != "" && c.LiveKit.Secret != "", "livekit.key, livekit.secret: set LiveKit's API key")
	}
	if !c.all() {
		need(c.Bus.Redis != "", "bus.redis: services in separate processes share their live state in Redis; set its URL")
		need(c.Keys.Master != "", "keys.master: services in separate processes share one master key; name its file")
		need(c.Auth.InternalSecret != "", "auth.internal_secret: services in separate processes need a shared secret; the same for all")
	}
	for role, perms := range c.Auth.Roles {
		for _, p := range perms {
			_, err := auth.ParsePermission(p)
			need(err == nil, "auth.roles.%s: %v", role, err)
		}
	}
	return errors.Join(errs...)
}

// path is a file or folder below the data folder.
func (c *Config) path(elem ...string) string {
	return filepath.Join(append([]string{c.Data}, elem...)...)
}
