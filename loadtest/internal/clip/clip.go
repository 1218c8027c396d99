package clip

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/openova-io/bp-relay/services/dev/part"
)

// MTU is the largest RTP payload in bytes. With an RTP header (12), its
// extensions (up to 16), the tag of SRTP's AES-GCM (16) and TURN's channel
// header (4), a packet stays within 1208 bytes of UDP payload, less than the
// 1280 - 48 that any IPv6 path carries.
const MTU = 1160

// opusFrame is the duration of each audio packet.
const opusFrame = 20 * time.Millisecond

// Frame is one encoded picture, one spatial layer of a picture, or one audio packet.
type Frame struct {
	// Payloads are RTP payloads in order, payload descriptors included, of at most MTU
	// bytes. All but the last are equally long, so that a sender can use UDP GSO; in an
	// H.264 key frame the first one is shorter and has the parameter sets. They are
	// read-only: a sender patches its copies.
	Payloads [][]byte
	Key      bool
	// At is the media time since the clip's start, Duration the time to the next picture.
	At, Duration      time.Duration
	Spatial, Temporal int
	// PictureID is the offset in each payload of a 15-bit picture id (two bytes with the
	// top bit set), -1 for none. It counts pictures from 0, modulo 1 << 15; a sender
	// rewrites it to continue it when the clip loops.
	PictureID int
	// TL0 is the offset of TL0PICIDX in each payload, -1 for none. It counts pictures of
	// the temporal base layer from 0, modulo 256.
	TL0 int
	// Descriptor is the dependency descriptor of the first payload, without the frame
	// number; nil for none. See Describe.
	Descriptor []byte
	// Last is true for a picture's last (highest) spatial layer: its last payload has the
	// RTP marker bit.
	Last bool
}

// Clip is encoded media that can be sent in a loop. It is immutable and may be shared.
type Clip struct {
	Spec         Spec
	MIME         string // "video/VP8"
	ClockRate    int    // Hz
	Channels     int    // of audio; 0 for video
	Fmtp         string // as in SDP
	Frames       []Frame
	PayloadBytes int64 // of all frames, payload descriptors included
	Length       time.Duration
	// Pictures and Bases are what one loop adds to the picture id and to TL0PICIDX: the
	// number of pictures, and of those in temporal layer 0.
	Pictures, Bases int
}

// Make returns the clip of a spec. It is encoded once and kept in dir, which processes
// may share; "" means the user's cache. Errors are a [SpecError], a [MissingError], an
// [EncoderError], or a file's.
func Make(ctx context.Context, dir string, s Spec) (*Clip, error) {
	s = s.filled()
	if err := s.check(); err != nil {
		return nil, err
	}
	if dir == "" {
		cache, err := part.CacheDir()
		if err != nil {
			return nil, fmt.Errorf("clip folder: %w", err)
		}
		dir = filepath.Join(cache, "clips")
	}
	// Programs get this path, and svcenc runs from it.
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("clip folder: %w", err)
	}
	units, err := encoded(ctx, dir, s)
	if err != nil {
		return nil, fmt.Errorf("make %s clip: %w", s.Codec, err)
	}
	return packetise(s, units)
}

// shares are the bitrates of the layers below the top one relative to it, highest layer
// first: LiveKit's presets for 720p, 360p and 180p (1.7 Mbit/s, 450 and 160 kbit/s;
// client-sdk-js src/room/track/options.ts).
func shares() []float64 { return []float64{450. / 1700, 160. / 1700} }

// Layers returns n clips for simulcast, 1 to 3, lowest first. The last one is the spec's;
// each other one has half the width and height of the next, the same frame rate and key
// frames at the same instants. Errors are those of [Make].
func Layers(ctx context.Context, dir string, s Spec, n int) ([]*Clip, error) {
	s = s.filled()
	switch {
	case n < 1 || n > 3:
		return nil, &SpecError{Field: "Simulcast", Value: n, Want: "1 to 3 layers"}
	case n > 1 && s.audio():
		return nil, &SpecError{Field: "Simulcast", Value: n, Want: "1 for Opus"}
	case n > 1 && s.SVC == L3T3Key:
		return nil, &SpecError{Field: "Simulcast", Value: n, Want: "1 with L3T3_KEY, which has spatial layers already"}
	}
	if err := s.check(); err != nil {
		return nil, err
	}
	clips := make([]*Clip, n)
	for i := range n {
		layer, down := s, n-1-i
		if down > 0 {
			layer.Width, layer.Height = s.Width>>down&^1, s.Height>>down&^1
			layer.Bitrate = max(int(float64(s.Bitrate)*shares()[down-1]), 10_000)
		}
		if layer.Width != 0 && (layer.Width < 16 || layer.Height < 16) {
			return nil, &SpecError{Field: "Simulcast", Value: n, Want: fmt.Sprintf("fewer layers for %dx%d: the lowest would be %dx%d", s.Width, s.Height, layer.Width, layer.Height)}
		}
		var err error
		if clips[i], err = Make(ctx, dir, layer); err != nil {
			return nil, fmt.Errorf("simulcast layer %d of %d: %w", i+1, n, err)
		}
	}
	return clips, nil
}
