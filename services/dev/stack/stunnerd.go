package stack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/openova-io/bp-relay/services/dev/part"
	"github.com/openova-io/bp-relay/services/dev/process"
)

// StunnerdConfig says how STUNner's data plane is run. Its ports come with the
// configuration that config discovery serves.
type StunnerdConfig struct {
	// Origin is the base URL of the config discovery service, which must be
	// up: "http://127.0.0.1:13478".
	Origin string
	// Token is what the service asks for, or "". stunnerd presents it as the name
	// of its node, and gets it in its environment: all users see a command line.
	Token string
	// ID names the configuration to ask for: "relay/gw", at most one slash.
	ID string
	// Health is the base URL of the health endpoint in that configuration
	// ("http://127.0.0.1:8086"). "" asks Origin for it.
	Health string
	// LogLevel is in STUNner's form; "" means "all:INFO".
	LogLevel string
	// UDPThreads is how many sockets share each UDP listener's port
	// (SO_REUSEPORT), each with its own read loop; 0 means one. STUNner's
	// operator sets 16.
	UDPThreads int
}

// Stunnerd is a running data plane.
type Stunnerd struct {
	ID string
	// Health is the base URL of /live, /ready and /status: loopback only. An
	// unedited stunnerd reveals the TURN secret in /status to everybody who can
	// reach it; ours does not (deploy/local/stunner/edits.json).
	Health string
	*process.Process
}

// StartStunnerd runs stunnerd against a config discovery service and waits
// until it is ready, which is once it runs a configuration. Several may run.
func (e *Env) StartStunnerd(ctx context.Context, c StunnerdConfig) (*Stunnerd, error) {
	bin, err := e.tool("stunnerd", part.Stunner)
	if err != nil {
		return nil, err
	}
	dir, err := e.folder(part.Stunner)
	if err != nil {
		return nil, err
	}
	if c.Health == "" {
		if c.Health, err = servedHealth(ctx, c); err != nil {
			return nil, fmt.Errorf("stunnerd: %w", err)
		}
	}
	level := c.LogLevel
	if level == "" {
		level = "all:INFO"
	}
	s := &Stunnerd{ID: c.ID, Health: c.Health}
	name := part.Name("stunnerd-" + strings.ReplaceAll(c.ID, "/", "-"))
	s.Process, err = e.launch(ctx, name, process.Spec{
		Args: []string{bin, "-w", "-c", c.Origin, "-i", c.ID, "-l", level, "-u", strconv.Itoa(c.UDPThreads)}, Dir: dir,
		Env: []string{"HOME=" + dir, "STUNNER_NODENAME=" + c.Token},
		Ready: func(ctx context.Context) error {
			_, err := get(ctx, s.Health+"/ready")
			return err
		},
		Hint: "check that its config discovery service at " + c.Origin + " serves " + c.ID + " and that the ports in it are free",
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}

// servedHealth reads the health endpoint from the configuration served for id.
// Errors quote nothing of the configuration, which holds the TURN secret.
func servedHealth(ctx context.Context, c StunnerdConfig) (string, error) {
	id := c.ID
	body, err := get(ctx, strings.TrimSuffix(c.Origin, "/")+"/api/v1/configs/"+id+"?node="+url.QueryEscape(c.Token))
	if err != nil {
		return "", fmt.Errorf("get %s from the config discovery service: %w", id, err)
	}
	var config struct {
		Admin struct {
			Health *string `json:"healthcheck_endpoint"`
		} `json:"admin"`
	}
	if err := json.Unmarshal(body, &config); err != nil {
		return "", errors.New("the config discovery service does not serve JSON for " + id)
	}
	if config.Admin.Health == nil || *config.Admin.Health == "" {
		return "", fmt.Errorf("the configuration of %s has no healthcheck_endpoint: give it one on 127.0.0.1", id)
	}
	return *config.Admin.Health, nil
}

// get returns at most 1 MiB of the body of a 200 answer; other answers are
// errors.
func get(ctx context.Context, url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := newHTTPClient().Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		where, _, _ := strings.Cut(url, "?") // what follows may be a secret
		return nil, fmt.Errorf("GET %s answers %s", where, resp.Status)
	}
	return body, nil
}
