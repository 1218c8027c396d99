package scenario

import (
	"time"

	"github.com/openova-io/bp-relay/loadtest/internal/result"
)

// def sets a value that is empty and was not given; a given 0 is left for Validate
// to check.
func def[T comparable](s *Scenario, field string, v *T, to T) {
	var zero T
	if *v == zero && !s.has(field) {
		*v = to
	}
}

// Defaults fills in empty values, by kind. A key that a file or Set gave stays as
// it is, even if it is 0. Defaults may be called again after changes.
func (s *Scenario) Defaults() {
	def(s, "name", &s.Name, "scenario")
	def(s, "kind", &s.Kind, result.KindMedia)
	def(s, "rooms.prefix", &s.Rooms.Prefix, "loadtest")
	s.target()
	switch s.Kind {
	case result.KindAPI:
		if s.API != nil {
			def(s, "api.hold", &s.API.Hold, 30*time.Second)
			def(s, "api.callers", &s.API.Callers, 100)
			if len(s.API.Mix) == 0 && !s.has("api.mix") {
				s.API.Mix = map[string]float64{"join": 1}
			}
		}
	case result.KindTunnel:
		if s.Tunnel == nil {
			s.Tunnel = &Tunnel{}
		}
		def(s, "tunnel.sessions", &s.Tunnel.Sessions, 10)
		def(s, "tunnel.hold", &s.Tunnel.Hold, 30*time.Second)
	case result.KindRecording:
		if s.Recording == nil {
			s.Recording = &Recording{}
		}
		def(s, "recording.share", &s.Recording.Share, 1)
		s.participants()
	default:
		s.participants()
	}
}

func (s *Scenario) target() {
	if a := s.Target.API; a != nil {
		def(s, "target.api.token_env", &a.TokenEnv, "RELAY_TOKEN")
	}
	if l := s.Target.LiveKit; l != nil {
		def(s, "target.livekit.key_env", &l.KeyEnv, "LIVEKIT_API_KEY")
		def(s, "target.livekit.secret_env", &l.SecretEnv, "LIVEKIT_API_SECRET")
	}
}

// participants are the defaults of the kinds whose participants join rooms.
func (s *Scenario) participants() {
	if len(s.Paths) == 0 && !s.has("paths") {
		s.Paths = []string{Direct}
	}
	def(s, "publish_path", &s.PublishPath, Direct)
	def(s, "rooms.count", &s.Rooms.Count, 1)
	if s.Rooms.Existing == "" {
		def(s, "rooms.publishers", &s.Rooms.Publishers, 1)
	}
	def(s, "rooms.subscribers", &s.Rooms.Subscribers, 10)
	s.media()
	s.load()
	if d := s.Data; d != nil {
		def(s, "data.size", &d.Size, 200)
	}
	if sp := s.Speakers; sp != nil {
		def(s, "speakers.active", &sp.Active, 1)
		def(s, "speakers.every", &sp.Every, 5*time.Second)
	}
	def(s, "witnesses", &s.Witnesses, .05)
	def(s, "bwe", &s.BWE, "none")
	if s.NACK == nil {
		yes := true
		s.NACK = &yes
	}
}

func (s *Scenario) media() {
	m := &s.Media
	if m.Video == nil && m.Audio == nil && !s.has("media") {
		m.Video, m.Audio = &Video{}, &Audio{}
	}
	def(s, "media.clip", &m.Clip, 10*time.Second)
	if v := m.Video; v != nil {
		def(s, "media.video.codec", &v.Codec, "vp8")
		if v.Width == 0 && v.Height == 0 && !s.has("media.video.width") && !s.has("media.video.height") {
			v.Width, v.Height = 1280, 720
		}
		def(s, "media.video.fps", &v.FPS, 30)
		def(s, "media.video.bitrate", &v.Bitrate, 1_700_000)
		def(s, "media.video.simulcast", &v.Simulcast, 1)
		def(s, "media.video.key_interval", &v.KeyInterval, 2*time.Second)
		def(s, "media.video.quality", &v.Quality, "high")
	}
	if a := m.Audio; a != nil {
		def(s, "media.audio.bitrate", &a.Bitrate, 48_000)
	}
}

func (s *Scenario) load() {
	l := &s.Load
	def(s, "load.mode", &l.Mode, Closed)
	def(s, "load.warmup", &l.Warmup, 3*time.Second)
	switch {
	case len(l.Stages) == 0:
		def(s, "load.hold", &l.Hold, 30*time.Second)
	case !s.has("load.hold"):
		l.Hold = 0 // it was a default, before the stages were set
	}
	def(s, "load.join_rate", &l.JoinRate, 50)
	def(s, "load.max_pending", &l.MaxPending, 200)
	if l.Mode == Open {
		def(s, "load.stay", &l.Stay, 30*time.Second)
	}
}
