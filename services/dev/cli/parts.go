package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/openova-io/bp-relay/services/app"
	"github.com/openova-io/bp-relay/services/dev/part"
	"github.com/openova-io/bp-relay/services/dev/stack"
	"github.com/openova-io/bp-relay/services/turn"
)

// healthyWithin bounds how long up waits for the TURN gateway's probe.
const healthyWithin = 20 * time.Second

// stackOptions says which parts to start, and which exist already.
func stackOptions(cfg app.Config, o upOptions, progress part.Progress) stack.Options {
	s := stack.Options{Dir: o.dir, Progress: progress, NoStunner: cfg.Turn.Gateway == ""}
	secret, _ := cfg.LiveKit.Secret.Reveal() // the check of the existing server reports an unreadable file
	s.LiveKit.URL, s.LiveKit.Key, s.LiveKit.Secret = cfg.LiveKit.URL, cfg.LiveKit.Key, secret
	s.LiveKit.Port, s.LiveKit.UDPPort = o.ports.livekit, o.ports.livekitUDP
	s.LiveKit.Webhooks = []string{"http://" + cfg.Listen.API + "/webhooks/livekit"}
	// Only relay creates rooms: a token that outlives its room must not open the
	// room again.
	s.LiveKit.Overrides = map[string]any{"room": map[string]any{"auto_create": false}}
	key, _ := cfg.Blob.SecretKey.Reveal()
	s.S3.Endpoint, s.S3.AccessKey, s.S3.SecretKey, s.S3.Port = cfg.Blob.Endpoint, cfg.Blob.AccessKey, key, o.ports.s3
	s.Guacd.Address, s.Guacd.Port = cfg.Guacd.Address, o.ports.guacd
	s.Redis.URL, _ = cfg.Bus.Redis.Reveal()
	s.Postgres.URL, _ = cfg.Records.Postgres.Reveal()
	return s
}

// use fills the configuration with the parts that were started or found.
func use(c *app.Config, s *stack.Stack) {
	c.LiveKit.URL, c.LiveKit.Key, c.LiveKit.Secret = s.LiveKit.URL, s.LiveKit.Key, app.Secret(s.LiveKit.Secret)
	if s.LiveKit.UDPPort != 0 {
		c.LiveKit.Media = fmt.Sprintf("127.0.0.1:%d-%d", s.LiveKit.UDPPort, s.LiveKit.UDPPort)
	}
	c.Blob.Endpoint, c.Blob.AccessKey, c.Blob.SecretKey = s.S3.Endpoint, s.S3.AccessKey, app.Secret(s.S3.SecretKey)
	c.Guacd.Address = s.Guacd.Address
}

// startGateway starts stunnerd with relay's config discovery, and waits until a
// probe has passed through it.
func startGateway(ctx context.Context, cfg *app.Config, service *turn.Service, parts *stack.Stack) error {
	g, err := cfg.Gateway()
	if err != nil {
		return err
	}
	token, err := cfg.Turn.CDSToken.Reveal()
	if err != nil {
		return err
	}
	if _, err := parts.StartStunnerd(ctx, stack.StunnerdConfig{
		Origin: service.Origin(), Token: token, ID: g.ID(), Health: "http://" + cfg.Turn.Health,
	}); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, healthyWithin)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		h, _ := service.Health(g.Name)
		if h.State == turn.Healthy {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the TURN gateway is not healthy after %s: %s", healthyWithin, h.Problem)
		case <-tick.C:
		}
	}
}
