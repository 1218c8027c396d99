package clip

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// The codecs by their names in scenarios.
const (
	VP8  = "vp8"
	VP9  = "vp9"
	AV1  = "av1"
	H264 = "h264"
	Opus = "opus"
)

// The scalability modes, by their names in W3C webrtc-svc.
const (
	L1T2    = "L1T2"     // two temporal layers: VP8, VP9
	L1T3    = "L1T3"     // three temporal layers: VP8, VP9
	L3T3Key = "L3T3_KEY" // three spatial by three temporal layers, spatially independent but for key pictures: VP9
)

// Spec says what to encode. A field that is zero has its default.
type Spec struct {
	Codec         string // vp8, vp9, av1, h264, opus
	Width, Height int    // pixels, even, 16 to 3840 and 16 to 2160; 1280x720 by default
	FPS           int    // 1 to 60; 30 by default
	// Bitrate in bit/s of all layers together: 10 kbit/s to 50 Mbit/s, 6 to
	// 256 kbit/s for Opus. 1.7 Mbit/s and 32 kbit/s by default. The rate is as constant
	// as the encoder can keep it.
	Bitrate int
	// KeyInterval is the time between key frames, at least one frame; 2 s by
	// default, rounded to whole frames.
	KeyInterval time.Duration
	// Length of the clip, up to 10 min; 10 s by default. It is rounded to whole
	// frames.
	Length time.Duration
	// SVC is a scalability mode: "", L1T2, L1T3, L3T3_KEY.
	SVC string
	// Tone in Hz, 20 to 20000; 440 by default. Opus only.
	Tone int
}

// ErrSpec means that a spec cannot be encoded; every [SpecError] is one.
var ErrSpec = errors.New("clip: not possible")

// SpecError names the field of a [Spec] that cannot be encoded.
type SpecError struct {
	Field string // of Spec
	Value any
	Want  string // what can be
}

// Error implements error.
func (e *SpecError) Error() string {
	return fmt.Sprintf("%v: %s is %v: want %s", ErrSpec, e.Field, e.Value, e.Want)
}

// Unwrap makes it an [ErrSpec].
func (e *SpecError) Unwrap() error { return ErrSpec }

// audio reports whether the clip is audio.
func (s Spec) audio() bool { return s.Codec == Opus }

// filled returns the spec with its defaults.
func (s Spec) filled() Spec {
	if s.Length == 0 {
		s.Length = 10 * time.Second
	}
	def := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	if s.audio() {
		def(&s.Bitrate, 32_000)
		def(&s.Tone, 440)
		return s
	}
	if s.Width == 0 && s.Height == 0 {
		s.Width, s.Height = 1280, 720
	}
	def(&s.FPS, 30)
	def(&s.Bitrate, 1_700_000)
	if s.KeyInterval == 0 {
		s.KeyInterval = 2 * time.Second
	}
	return s
}

// check returns a *SpecError for a filled spec that cannot be encoded.
func (s Spec) check() error {
	between := func(field string, v, from, to int) error {
		if v < from || v > to {
			return &SpecError{Field: field, Value: v, Want: fmt.Sprintf("%d to %d", from, to)}
		}
		return nil
	}
	if !slices.Contains([]string{VP8, VP9, AV1, H264, Opus}, s.Codec) {
		return &SpecError{Field: "Codec", Value: fmt.Sprintf("%q", s.Codec), Want: "vp8, vp9, av1, h264 or opus"}
	}
	if s.Length < 100*time.Millisecond || s.Length > 10*time.Minute {
		return &SpecError{Field: "Length", Value: s.Length, Want: "100ms to 10m"}
	}
	if s.audio() {
		if s.SVC != "" {
			return s.noSVC("none for Opus")
		}
		return errors.Join(between("Bitrate", s.Bitrate, 6_000, 256_000), between("Tone", s.Tone, 20, 20_000))
	}
	if err := errors.Join(
		between("Width", s.Width, 16, 3840), between("Height", s.Height, 16, 2160),
		between("FPS", s.FPS, 1, 60), between("Bitrate", s.Bitrate, 10_000, 50_000_000),
	); err != nil {
		return err
	}
	// 4:2:0 has one chroma sample for two by two pixels.
	if s.Width%2 != 0 {
		return &SpecError{Field: "Width", Value: s.Width, Want: "an even number"}
	}
	if s.Height%2 != 0 {
		return &SpecError{Field: "Height", Value: s.Height, Want: "an even number"}
	}
	if s.KeyInterval < s.frame() {
		return &SpecError{Field: "KeyInterval", Value: s.KeyInterval, Want: fmt.Sprintf("%v (one frame) or more", s.frame())}
	}
	if s.frames() < 1 {
		return &SpecError{Field: "Length", Value: s.Length, Want: fmt.Sprintf("%v (one frame) or more", s.frame())}
	}
	return s.checkSVC()
}

func (s Spec) checkSVC() error {
	switch s.SVC {
	case "":
		return nil
	case L1T2, L1T3:
		if s.Codec != VP8 && s.Codec != VP9 {
			return s.noSVC("none for " + s.Codec + " (vp8 and vp9 have L1T2 and L1T3)")
		}
		return nil
	case L3T3Key:
		if s.Codec != VP9 {
			return s.noSVC("none for " + s.Codec + " (L3T3_KEY is vp9's)")
		}
		if s.Width%8 != 0 || s.Height%8 != 0 || s.Width < 128 || s.Height < 128 {
			return &SpecError{Field: "Width", Value: fmt.Sprintf("%dx%d", s.Width, s.Height), Want: "multiples of 8, 128 or more: the lowest spatial layer has a quarter of it"}
		}
		return nil
	}
	return s.noSVC("L1T2, L1T3, L3T3_KEY or none")
}

func (s Spec) noSVC(want string) error {
	return &SpecError{Field: "SVC", Value: fmt.Sprintf("%q", s.SVC), Want: want}
}

// frame returns the duration of one frame.
func (s Spec) frame() time.Duration {
	if s.audio() {
		return opusFrame
	}
	return time.Second / time.Duration(s.FPS)
}

// at returns when the nth frame starts, rounded once instead of n times.
func (s Spec) at(n int) time.Duration {
	if s.audio() {
		return time.Duration(n) * opusFrame
	}
	return time.Duration(n) * time.Second / time.Duration(s.FPS)
}

// frames returns how many pictures or audio packets the clip has.
func (s Spec) frames() int {
	if s.audio() {
		return int((s.Length + opusFrame/2) / opusFrame)
	}
	return int((s.Length*time.Duration(s.FPS) + time.Second/2) / time.Second)
}

// every returns the number of frames from one key frame to the next.
func (s Spec) every() int {
	return max(int((s.KeyInterval*time.Duration(s.FPS)+time.Second/2)/time.Second), 1)
}
