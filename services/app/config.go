package app

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/openova-io/bp-relay/services/connection"
	"github.com/openova-io/bp-relay/services/connection/guac"
	"github.com/openova-io/bp-relay/services/internal/auth"
)

// Config holds all configuration of a process. [Load] reads it from a YAML file,
// RELAY_* variables and flags. The doc tags are the only documentation of each
// key: they are the help of the flags.
type Config struct {
	Data     string   `koanf:"data" doc:"folder for records, keys and spool"`
	Services []string `koanf:"services" doc:"services of this process: all, or some of room, event, recording, connection, turn, evidence"`

	Listen struct {
		API   string `koanf:"api" doc:"address of the API, the tunnel and LiveKit's webhooks (gRPC, gRPC-Web, Connect and JSON on one port)"`
		Admin string `koanf:"admin" doc:"address of health, readiness, metrics and profiles (pprof); it needs no token, so bind it to the operator's network"`

		Hosts     []string `koanf:"hosts" doc:"names by which HTTP requests may call the listeners, besides localhost and the listener's own address; *.example.com stands for all names below"`
		Plaintext bool     `koanf:"plaintext" doc:"serve and call other relay processes without TLS off loopback: only where a proxy or a mesh encrypts"`

		TLS struct {
			Cert          string `koanf:"cert" doc:"file of the certificate chain (PEM) of both listeners; read again when it changes; if empty, no TLS"`
			Key           string `koanf:"key" doc:"file of the certificate's key (PEM)"`
			ClientCA      string `koanf:"client_ca" doc:"file of the CAs (PEM) of which every client of the API must show a certificate; if empty, none is asked for"`
			AdminClientCA string `koanf:"admin_client_ca" doc:"the same for clients of the admin address"`
		} `koanf:"tls"`
	} `koanf:"listen"`

	// Limits bound what callers may do; 0 means no limit.
	Limits struct {
		Subject             int `koanf:"subject" doc:"calls per second of one subject, in each process"`
		Org                 int `koanf:"org" doc:"calls per second of one organisation, in each process"`
		Connections         int `koanf:"connections" doc:"connections from one address (IPv6: one /64)"`
		Untrusted           int `koanf:"untrusted" doc:"connections over which no valid token has come yet; further ones wait for 5 s"`
		UntrustedPerAddress int `koanf:"untrusted_per_address" doc:"the same, from one address"`
	} `koanf:"limits"`

	Log struct {
		Level  string `koanf:"level" doc:"debug, info, warn or error"`
		Format string `koanf:"format" doc:"text or json"`
	} `koanf:"log"`

	Keys struct {
		Master string `koanf:"master" doc:"file of the installation's master key, the same for all its processes; if empty, master.key in the data folder; created if missing"`
	} `koanf:"keys"`

	Auth struct {
		Issuer          string              `koanf:"issuer" doc:"OIDC issuer whose tokens are accepted (Keycloak: https://host/realms/name)"`
		Audience        string              `koanf:"audience" doc:"audience that tokens must have"`
		OrgClaim        string              `koanf:"org_claim" doc:"claim that names the caller's organisation"`
		Roles           map[string][]string `koanf:"roles" doc:"role to permissions; replaces the built-in roles"`
		PlaintextIssuer bool                `koanf:"plaintext_issuer" doc:"accept an issuer over http:// that is not on loopback: whoever is between may make tokens"`
		InternalSecret  Secret              `koanf:"internal_secret" doc:"shared by all processes of one installation, at least 32 bytes; if empty, random at each start, for one process that runs everything"`
	} `koanf:"auth"`

	Records struct {
		Postgres Secret `koanf:"postgres" doc:"PostgreSQL URL; if empty, SQLite in the data folder"`
	} `koanf:"records"`

	Bus struct {
		Redis Secret `koanf:"redis" doc:"Redis URL; if empty, live state is in this process"`
	} `koanf:"bus"`

	Blob struct {
		Endpoint   string `koanf:"endpoint" doc:"URL of the S3 endpoint (SeaweedFS)"`
		AccessKey  string `koanf:"access_key" doc:"S3 access key"`
		SecretKey  Secret `koanf:"secret_key" doc:"S3 secret key"`
		Recordings string `koanf:"recordings" doc:"bucket for recordings of rooms"`
		Sessions   string `koanf:"sessions" doc:"bucket for recordings of sessions"`
		Evidence   string `koanf:"evidence" doc:"bucket for the evidence log"`
		// AllowUnsigned is for a developer's machine.
		AllowUnsigned bool `koanf:"allow_unsigned" doc:"true: use an object store that carries out unsigned requests, as SeaweedFS 3.39 does; for development only"`
	} `koanf:"blob"`

	LiveKit struct {
		URL       string `koanf:"url" doc:"LiveKit's HTTP URL for relay's own calls"`
		PublicURL string `koanf:"public_url" doc:"LiveKit's WebSocket URL for participants; if empty, derived from url"`
		Key       string `koanf:"key" doc:"LiveKit API key"`
		Secret    Secret `koanf:"secret" doc:"LiveKit API secret, at least 32 characters"`
		Media     string `koanf:"media" doc:"address and UDP ports of the SFU's media, which TURN clients may reach: 127.0.0.1:7882-7882"`
	} `koanf:"livekit"`

	Room struct {
		EndAtOnce int `koanf:"end_at_once" doc:"share of the open rooms, in percent, that may end at once because LiveKit does not have them; more is an alarm for an operator (relay alarms), and none ends"`
		Joins     int `koanf:"joins" doc:"join answers per minute that one participant of a room may get from one process; 0: no limit"`
	} `koanf:"room"`

	Guacd struct {
		Address    string        `koanf:"address" doc:"host:port of guacd"`
		SSH        string        `koanf:"ssh" doc:"what guacd's SSH client can do: debian-11 (guacd 1.3 with libssh2 1.9: RSA with SHA-1 only) or current (libssh2 1.11, as in the images of guacd 1.5.5 and later)"`
		FirstFrame time.Duration `koanf:"first_frame" doc:"how long a target may take until it shows anything"`
		NoProbe    bool          `koanf:"no_probe" doc:"relay itself cannot reach the targets, only guacd can: then it cannot say why a target does not answer"`
	} `koanf:"guacd"`

	// Targets say what sessions may dial.
	Targets struct {
		Allow []string            `koanf:"allow" doc:"targets that are allowed although they are loopback, link-local, metadata or this machine: addresses, networks, or address:port, which also allows one of relay's own parts"`
		Orgs  map[string][]string `koanf:"orgs" doc:"organisation to the networks that its sessions may dial; an organisation that is not listed may dial any that is not refused"`
	} `koanf:"targets"`

	Sessions struct {
		Person int `koanf:"person" doc:"open sessions that one person may have"`
		Org    int `koanf:"org" doc:"open sessions that one organisation may have"`
		Pixels int `koanf:"pixels" doc:"largest screen of a session, in pixels; larger ones are scaled"`
	} `koanf:"sessions"`

	Tunnel struct {
		Origins []string `koanf:"origins" doc:"web origins (https://desk.example.com) whose pages may call the API and open tunnels, besides the API's own"`
	} `koanf:"tunnel"`

	Turn struct {
		CDS      string `koanf:"cds" doc:"loopback address at which stunnerd gets its configuration"`
		CDSToken Secret `koanf:"cds_token" doc:"what stunnerd must present there, in its variable STUNNER_NODENAME; if empty, every process of this machine reads the TURN secret"`
		Gateway  string `koanf:"gateway" doc:"name of the gateway that serves every organisation; if empty, there is none"`
		Listen   string `koanf:"listen" doc:"address and port at which clients reach that gateway, over UDP and TCP"`
		Health   string `koanf:"health" doc:"loopback address of stunnerd's health endpoint"`
		Metrics  string `koanf:"metrics" doc:"loopback address of stunnerd's metrics"`
		Echo     string `koanf:"echo" doc:"address of the probe's echo responder, which the data plane must reach; if empty, probes relay no data"`
		Mints    int    `koanf:"mints" doc:"credentials per minute that one caller of MintIceServers may get from one process; 0: no limit"`
		Quota    int    `koanf:"user_quota" doc:"allocations that one credential may have at once; 0: no limit. STUNner's free build does not enforce it"`
	} `koanf:"turn"`

	Evidence struct {
		Origin string `koanf:"origin" doc:"name of the evidence log in its checkpoints; it must never change"`
	} `koanf:"evidence"`

	Capture struct {
		MaxSpool      int64            `koanf:"max_spool" doc:"bytes that the spool may hold, e.g. while the object store is away"`
		OrgShare      int64            `koanf:"org_share" doc:"bytes of the spool that every organisation which records is sure of, and that others cannot take; 0: max_spool/100. At most max_spool/org_share organisations can record at once"`
		RequiredShare int              `koanf:"required_share" doc:"percentage of the spool, and of each organisation's part, that only required captures may use"`
		Orgs          map[string]int64 `koanf:"orgs" doc:"organisation to the bytes of the spool that are kept for it at all times, and are all that it may use; an organisation that is not listed may use an equal part of the rest"`
		Patience      time.Duration    `koanf:"patience" doc:"how long a recording or session waits for what may pass, such as a host that gives no sign of life, before it ends with what is stored; a required recording then ends its room"`
	} `koanf:"capture"`

	// Remote has the addresses of services that other processes run.
	Remote struct {
		Room string `koanf:"room" doc:"host:port of the room service, if another process runs it"`
		Turn string `koanf:"turn" doc:"host:port of the turn service, if another process runs it"`

		TLS struct {
			CA   string `koanf:"ca" doc:"file of the CAs (PEM) that have signed the certificates of other relay processes; if empty, calls to them are not encrypted"`
			Cert string `koanf:"cert" doc:"file of the certificate (PEM) that this process shows them"`
			Key  string `koanf:"key" doc:"file of its key (PEM)"`
		} `koanf:"tls"`
	} `koanf:"remote"`

	Startup  time.Duration `koanf:"startup" doc:"how long a start waits for PostgreSQL and Redis while they do not answer; 0 tries once"`
	Shutdown time.Duration `koanf:"shutdown" doc:"how long running calls may take to finish after a stop"`
}

// Default returns a configuration for one machine. It lacks LiveKit's key, the
// object store and the issuer.
func Default() Config {
	var c Config
	c.Data = ".local/data"
	c.Services = []string{"all"}
	c.Listen.API = "127.0.0.1:8080"
	c.Listen.Admin = "127.0.0.1:8081"
	c.Log.Level, c.Log.Format = "info", "text"
	c.Limits.Subject, c.Limits.Org = 1000, 3000
	c.Limits.Connections, c.Limits.Untrusted, c.Limits.UntrustedPerAddress = 2048, 512, 128
	c.Auth.Audience, c.Auth.OrgClaim = "bp-relay", "org"
	c.Blob.Recordings, c.Blob.Sessions, c.Blob.Evidence = "livekit-recordings", "guacamole-recordings", "relay-evidence"
	c.LiveKit.URL, c.LiveKit.Media = "http://127.0.0.1:7880", "127.0.0.1:7882-7882"
	c.Room.EndAtOnce, c.Room.Joins = 20, 60
	c.Guacd.Address, c.Guacd.SSH, c.Guacd.FirstFrame = "127.0.0.1:4822", "debian-11", 30*time.Second
	c.Sessions.Person, c.Sessions.Org, c.Sessions.Pixels = connection.DefaultPerson, connection.DefaultOrg, guac.DefaultPixels
	c.Turn.CDS, c.Turn.Listen = "127.0.0.1:13478", "127.0.0.1:3478"
	c.Turn.Health, c.Turn.Metrics, c.Turn.Echo = "127.0.0.1:8086", "127.0.0.1:8088", "127.0.0.1:3479"
	c.Turn.Mints, c.Turn.Quota = 6000, 32
	c.Capture.MaxSpool, c.Capture.RequiredShare, c.Capture.Patience = 10<<30, 25, 10*time.Minute
	c.Startup, c.Shutdown = 2*time.Minute, 10*time.Second
	return c
}

// Secret is a value that is never printed. "file:/path" stands for the content
// of that file without trailing line breaks.
type Secret string

// String returns a placeholder, or "" for an empty secret.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return "(secret)"
}

// Reveal returns the value. If it names a file, Reveal reads it.
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

// runs reports whether this process runs the service.
func (c *Config) runs(service string) bool {
	return slices.Contains(c.Services, "all") || slices.Contains(c.Services, service)
}

// all reports whether this process runs every service.
func (c *Config) all() bool {
	return !slices.ContainsFunc(serviceNames(), func(s string) bool { return !c.runs(s) })
}

// runsOnBus reports whether this process runs a service that does not work
// without the bus. Each process uses it to hear of revocations sooner.
func (c *Config) runsOnBus() bool {
	return slices.ContainsFunc([]string{"event", "recording", "connection", "evidence"}, c.runs)
}

// Check returns everything that is missing or wrong, at once.
func (c *Config) Check() error {
	var errs []error
	need := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	for _, s := range c.Services {
		need(s == "all" || slices.Contains(serviceNames(), s), "services: no service %q; want all, or some of %s", s, strings.Join(serviceNames(), ", "))
	}
	need(len(c.Services) > 0, "services: name at least one, or all")
	for _, a := range [][2]string{{"listen.api", c.Listen.API}, {"listen.admin", c.Listen.Admin}} {
		_, _, err := net.SplitHostPort(a[1])
		need(err == nil, "%s: %q: want host:port", a[0], a[1])
	}
	for _, err := range c.insecure() {
		need(false, "%w", err)
	}
	need(c.Auth.Issuer != "", "auth.issuer: set the OIDC issuer's URL (relay-dev up serves its own)")
	need(c.Blob.Endpoint != "" && c.Blob.AccessKey != "", "blob.endpoint, blob.access_key, blob.secret_key: set the S3 endpoint and its keys")
	if c.runs("room") || c.runs("recording") {
		need(c.LiveKit.Key != "" && c.LiveKit.Secret != "", "livekit.key, livekit.secret: set LiveKit's API key")
	}
	if !c.all() {
		need(c.Bus.Redis != "", "bus.redis: services in separate processes share their live state in Redis; set its URL")
		need(c.Keys.Master != "", "keys.master: services in separate processes share one master key; set its file")
		need(c.Auth.InternalSecret != "", "auth.internal_secret: services in separate processes share one secret; set the same for all")
	}
	_, err := c.addresses()
	need(err == nil, "%v", err)
	_, known := guacdClients()[c.Guacd.SSH]
	need(known, "guacd.ssh: %q: want debian-11 or current", c.Guacd.SSH)
	need(c.Capture.OrgShare <= c.Capture.MaxSpool, "capture.org_share: %d: want at most capture.max_spool", c.Capture.OrgShare)
	var given int64
	for org, n := range c.Capture.Orgs {
		need(n > 0 && n <= c.Capture.MaxSpool-given, "capture.orgs.%s: %d: want more than 0 bytes, and all organisations together at most capture.max_spool", org, n)
		given += max(n, 0)
	}
	for _, b := range c.bounds() {
		need(b.holds(), "%s", b)
	}
	for role, perms := range c.Auth.Roles {
		for _, p := range perms {
			_, err := auth.ParsePermission(p)
			need(err == nil, "auth.roles.%s: %v", role, err)
		}
	}
	return errors.Join(errs...)
}

// path returns the path of a file or folder in the data folder.
func (c *Config) path(elem ...string) string {
	return filepath.Join(append([]string{c.Data}, elem...)...)
}
