package local

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// StunnerdConfig says how STUNner's data plane is run. Its ports are not here:
// they come with the configuration that it is served.
type StunnerdConfig struct {
	// Origin is the base URL of the config discovery service, which must be
	// up: "http://127.0.0.1:13478".
	Origin string
	// ID names the configuration to ask for: "relay/gw", at most one slash.
	ID string
	// Health is the base URL of the health endpoint in that configuration
	// ("http://127.0.0.1:8086"). "" asks Origin for it.
	Health string
	// LogLevel is as STUNner has it; "" means "all:INFO".
	LogLevel string
	// UDPThreads is how many sockets share each UDP listener's port
	// (SO_REUSEPORT), each with a loop of its own; 0: one. STUNner's operator
	// runs it with 16.
	UDPThreads int
}

// Stunnerd is a running data plane.
type Stunnerd struct {
	ID string
	// Health is the base URL of /live, /ready and /status. The last one tells
	// the TURN secret to whoever asks: loopback only.
	Health string
	*Process
}

// StartStunnerd runs stunnerd against a config discovery service and waits
// until it reports that it runs a configuration. More than one may run.
func (e *Env) StartStunnerd(ctx context.Context, c StunnerdConfig) (*Stunnerd, error) {
	bin, err := e.tool("stunnerd", PartStunner)
	if err != nil {
		return nil, err
	}
	dir, err := e.folder(PartStunner)
	if err != nil {
		return nil, err
	}
	if c.Health == "" {
		if c.Health, err = servedHealth(ctx, c.Origin, c.ID); err != nil {
			return nil, fmt.Errorf("stunnerd: %w", err)
		}
	}
	level := c.LogLevel
	if level == "" {
		level = "all:INFO"
	}
	s := &Stunnerd{ID: c.ID, Health: c.Health}
	name := Name("stunnerd-" + strings.ReplaceAll(c.ID, "/", "-"))
	s.Process, err = launch(ctx, spec{
		part: name, argv: []string{bin, "-w", "-c", c.Origin, "-i", c.ID, "-l", level, "-u", strconv.Itoa(c.UDPThreads)}, dir: dir,
		env: []string{"HOME=" + dir},
		log: e.logFile(name),
		ready: func(ctx context.Context) error {
			_, err := get(ctx, s.Health+"/ready")
			return err
		},
		do: "check that its config discovery service at " + c.Origin + " serves " + c.ID + " and that the ports in it are free",
	}, e.OnExit)
	if err != nil {
		return nil, err
	}
	return s, nil
}

// servedHealth reads the health endpoint out of the configuration served for
// id. The configuration holds the TURN secret: nothing of it goes into errors.
func servedHealth(ctx context.Context, origin, id string) (string, error) {
	body, err := get(ctx, strings.TrimSuffix(origin, "/")+"/api/v1/configs/"+id)
	if err != nil {
		return "", fmt.Errorf("ask the config discovery service for %s: %w", id, err)
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
		return "", fmt.Errorf("the configuration of %s names no healthcheck_endpoint: give it one on 127.0.0.1", id)
	}
	return *config.Admin.Health, nil
}

// get returns the body of a 200 answer, at most 1 MiB.
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
		return nil, fmt.Errorf("GET %s answers %s", url, resp.Status)
	}
	return body, nil
}
