package scenario

import (
	"math"
	"slices"
	"strings"
	"time"

	"github.com/openova-io/bp-relay/loadtest/internal/result"
)

// Calls returns the gRPC calls that api.mix may have.
func Calls() []string { return []string{"join", "create_room", "list_rooms", "get_room"} }

// sections checks the section of the kind, and that there is no section of another
// kind.
func (c *check) sections() {
	s := c.s
	for kind, given := range map[string]bool{
		result.KindAPI: s.API != nil, result.KindTunnel: s.Tunnel != nil, result.KindRecording: s.Recording != nil,
	} {
		if given && s.Kind != kind {
			c.problem(kind, "is for kind %s; this scenario is of kind %s", kind, s.Kind)
		}
	}
	if !s.withRooms() {
		c.withoutRooms()
	}
	switch s.Kind {
	case result.KindAPI:
		c.api()
	case result.KindTunnel:
		c.tunnel()
	case result.KindRecording:
		if r := s.Recording; r != nil {
			within(c, "recording.share", r.Share, 0, 1)
			if r.Share == 0 {
				c.problem("recording.share", "no room is recorded: use kind media")
			}
		}
		if s.Rooms.Publishers == 0 {
			c.problem("rooms.publishers", "without a publisher there is nothing to record")
		}
	}
	if s.Kind != result.KindMedia && s.Target.LiveKit != nil {
		c.problem("target.livekit", "kind %s calls relay's API: set target.api or target.local", s.Kind)
	}
}

// withoutRooms refuses keys that would have no effect.
func (c *check) withoutRooms() {
	s := c.s
	for key, given := range map[string]bool{
		"paths": s.has("paths"), "publish_path": s.has("publish_path"), "media": s.has("media"), "data": s.Data != nil, "speakers": s.Speakers != nil,
		"fault": s.Fault != nil, "rooms.count": s.has("rooms.count"), "rooms.existing": s.Rooms.Existing != "", "rooms.publishers": s.Rooms.Publishers != 0,
		"rooms.subscribers": s.Rooms.Subscribers != 0, "load.mode": s.has("load.mode"), "load.stages": len(s.Load.Stages) > 0,
		"load.hold": s.Load.Hold != 0, "load.join_rate": s.has("load.join_rate"), "load.churn": s.Load.Churn != nil,
		"load.warmup": s.Load.Warmup != 0, "witnesses": s.Witnesses != 0, "nack": s.NACK != nil, "bwe": s.BWE != "",
	} {
		if given {
			c.problem(key, "is for kinds %s and %s, whose participants join rooms; this scenario is of kind %s", result.KindMedia, result.KindRecording, s.Kind)
		}
	}
}

func (c *check) api() {
	a := c.s.API
	if a == nil {
		c.problem("api", "kind api needs this section: set its rate")
		return
	}
	within(c, "api.rate", a.Rate, .01, 1_000_000)
	within(c, "api.callers", a.Callers, 1, 100_000)
	within(c, "api.hold", a.Hold, time.Second, 7*24*time.Hour)
	sum := 0.0
	for call, share := range a.Mix {
		if !slices.Contains(Calls(), call) {
			c.problem("api.mix."+call, "want one of %s", strings.Join(Calls(), ", "))
		}
		within(c, "api.mix."+call, share, 0, 1)
		sum += share
	}
	if math.Abs(sum-1) > 1e-6 {
		c.problem("api.mix", "the shares add up to %.6g, not 1 (100%%)", sum)
	}
}

func (c *check) tunnel() {
	t := c.s.Tunnel
	if t == nil {
		return
	}
	within(c, "tunnel.sessions", t.Sessions, 1, 100_000)
	within(c, "tunnel.hold", t.Hold, time.Second, 7*24*time.Hour)
	within(c, "tunnel.rate", t.Rate, 0, 1_000_000_000)
	if t.Replay != "" && !strings.HasSuffix(t.Replay, ".guac") {
		c.problem("tunnel.replay", "%q: want a .guac file", t.Replay)
	}
}
