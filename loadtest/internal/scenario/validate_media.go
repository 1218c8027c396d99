package scenario

import (
	"slices"
	"time"
)

func (c *check) media() {
	m := c.s.Media
	if m.Video == nil && m.Audio == nil && c.s.Data == nil && c.s.Rooms.Publishers > 0 {
		c.problem("media", "publishers have nothing to send: set video: {}, audio: {} or data")
	}
	within(c, "media.clip", m.Clip, time.Second, 2*time.Minute)
	if m.Video != nil {
		c.video(*m.Video)
	}
	if m.Audio != nil {
		within(c, "media.audio.bitrate", m.Audio.Bitrate, 6000, 256_000)
	}
}

func (c *check) video(v Video) {
	if !c.oneOf("media.video.codec", v.Codec, "vp8", "vp9", "av1", "h264") {
		return
	}
	within(c, "media.video.width", v.Width, 16, 3840)
	within(c, "media.video.height", v.Height, 16, 2160)
	if v.Width%2 != 0 {
		c.problem("media.video.width", "%d is odd; 4:2:0 pictures have even sizes", v.Width)
	}
	if v.Height%2 != 0 {
		c.problem("media.video.height", "%d is odd; 4:2:0 pictures have even sizes", v.Height)
	}
	within(c, "media.video.fps", v.FPS, 1, 60)
	within(c, "media.video.bitrate", v.Bitrate, 10_000, 50_000_000)
	within(c, "media.video.key_interval", v.KeyInterval, 100*time.Millisecond, time.Minute)
	if v.FPS >= 1 && v.KeyInterval >= 100*time.Millisecond && v.KeyInterval < time.Second/time.Duration(v.FPS) {
		c.problem("media.video.key_interval", "%s is shorter than a frame at %d fps", v.KeyInterval, v.FPS)
	}
	if v.KeyInterval > c.s.Media.Clip {
		c.problem("media.video.key_interval", "%s is longer than the clip (%s), which begins with a key frame each time", v.KeyInterval, c.s.Media.Clip)
	}
	c.layers(v)
}

// layers checks the keys for more than one layer of video.
func (c *check) layers(v Video) {
	within(c, "media.video.simulcast", v.Simulcast, 1, 3)
	// LiveKit (pkg/sfu/buffer processVideoPacket, v1.11.0) reads the spatial layer of
	// VP9 from the stream, in which each simulcast layer is the first.
	if v.Codec == "vp9" && v.Simulcast > 1 && v.SVC == "" {
		c.problem("media.video.simulcast", "LiveKit confuses the layers of a vp9 simulcast: use svc: L3T3_KEY, or another codec")
	}
	if smallest := min(v.Width, v.Height) >> max(v.Simulcast-1, 0); v.Simulcast > 1 && v.Simulcast <= 3 && smallest < 16 {
		c.problem("media.video.simulcast", "the smallest of %d layers of %dx%d is below 16 pixels", v.Simulcast, v.Width, v.Height)
	}
	if v.SVC != "" && c.oneOf("media.video.svc", v.SVC, "L1T2", "L1T3", "L3T3_KEY") {
		switch {
		case v.SVC == "L3T3_KEY" && v.Codec != "vp9":
			c.problem("media.video.svc", "L3T3_KEY is for vp9 only, not for %s", v.Codec)
		case !slices.Contains([]string{"vp8", "vp9"}, v.Codec):
			c.problem("media.video.svc", "%s is for vp8 and vp9, not for %s: leave it out, or use simulcast", v.SVC, v.Codec)
		case v.SVC == "L3T3_KEY" && (v.Width%8 != 0 || v.Height%8 != 0 || min(v.Width, v.Height) < 128):
			c.problem("media.video.svc", "L3T3_KEY needs a width and height of 128 or more, multiples of 8, not %dx%d: its lowest layer has a quarter of them", v.Width, v.Height)
		}
		if v.Simulcast > 1 {
			c.problem("media.video.simulcast", "contradicts svc: layers are either separate streams or one stream")
		}
	}
	if !c.oneOf("media.video.quality", v.Quality, "high", "medium", "low", "mixed") {
		return
	}
	if v.Quality != "high" && v.Simulcast == 1 && v.SVC != "L3T3_KEY" {
		c.problem("media.video.quality", "%q needs layers to choose from: simulcast: 2 or 3, or svc: L3T3_KEY", v.Quality)
	}
}

// extras checks the sections around the media.
func (c *check) extras() {
	s := c.s
	within(c, "witnesses", s.Witnesses, 0, 1)
	c.oneOf("bwe", s.BWE, "none", "remb")
	if d := s.Data; d != nil {
		within(c, "data.rate", d.Rate, .01, 10_000)
		within(c, "data.size", d.Size, 16, 15_000)
	}
	if sp := s.Speakers; sp != nil {
		within(c, "speakers.active", sp.Active, 1, max(s.Rooms.Publishers, 1))
		within(c, "speakers.every", sp.Every, 100*time.Millisecond, time.Hour)
		if s.Media.Audio == nil {
			c.problem("speakers", "speakers need audio: set media.audio: {}")
		}
	}
	if f := s.Fault; f != nil {
		for field, i := range map[string]Impair{"fault.publish": f.Publish, "fault.receive": f.Receive} {
			within(c, field+".loss", i.Loss, 0, 1)
			within(c, field+".delay", i.Delay, 0, 10*time.Second)
		}
	}
}
