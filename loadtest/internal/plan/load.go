package plan

import (
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/openova-io/bp-relay/loadtest/internal/clip"
	"github.com/openova-io/bp-relay/loadtest/internal/result"
	"github.com/openova-io/bp-relay/loadtest/internal/scenario"
)

// ErrScenario is returned for a scenario that cannot be planned.
var ErrScenario = errors.New("plan: scenario")

// Load is the peak load of a scenario, or of a worker's part of it.
type Load struct {
	Publishers  float64 `json:"publishers"`
	Subscribers float64 `json:"subscribers"`
	// Packets and bits per second; bits are RTP header, payload and SRTP tag.
	SentPackets     float64 `json:"sent_pps"`
	SentBits        float64 `json:"sent_bps"`
	ReceivedPackets float64 `json:"received_pps"`
	ReceivedBits    float64 `json:"received_bps"`
	Joins           float64 `json:"joins_per_s"`
	// Witnesses is the share of subscribers that are witnesses, 0 to 1.
	Witnesses float64 `json:"witnesses"`
	// TURN is the share of the received bits that TURN relays.
	TURN float64 `json:"turn"`
}

const (
	// rtpBytes are the bytes of a packet besides its payload: RTP header 12,
	// header extensions 20, SRTP tag 16 (AES-GCM).
	rtpBytes = 48
	// wireBytes are the bytes that the network adds: Ethernet 14 and its check
	// sequence 4, IPv4 20, UDP 8, and TURN's channel data 4.
	wireBytes = 50
	// audioRate is Opus' packets per second, at 20 ms each.
	audioRate = 50
)

// stream is a number of packets and bits per second.
type stream struct{ packets, bits float64 }

func (s stream) times(n float64) stream    { return stream{s.packets * n, s.bits * n} }
func (s stream) plus(o stream) stream      { return stream{s.packets + o.packets, s.bits + o.bits} }
func ofMedia(packets, rate float64) stream { return stream{packets, rate + packets*rtpBytes*8} }

// video returns one layer: frames of average size, whose last packets are half
// full on average.
func video(rate, fps float64) stream {
	perFrame := max(rate/8/fps/clip.MTU+0.5, 1)
	return ofMedia(perFrame*fps, rate)
}

// publisher returns what each publisher sends, and what a subscriber receives of
// it.
func publisher(s *scenario.Scenario) (sent, got stream) {
	if v := s.Media.Video; v != nil {
		// LiveKit's presets, which the clips follow: 1.7 Mbit/s, 450 and 160
		// kbit/s.
		layers := []stream{
			video(float64(v.Bitrate), float64(v.FPS)),
			video(float64(v.Bitrate)*450/1700, float64(v.FPS)),
			video(float64(v.Bitrate)*160/1700, float64(v.FPS)),
		}[:min(max(v.Simulcast, 1), 3)]
		for _, l := range layers {
			sent = sent.plus(l)
		}
		lowest := len(layers) - 1
		switch v.Quality {
		case "low":
			got = layers[lowest]
		case "medium":
			got = layers[min(1, lowest)]
		case "mixed":
			for _, i := range []int{0, min(1, lowest), lowest} {
				got = got.plus(layers[i].times(1. / 3))
			}
		default:
			got = layers[0]
		}
	}
	if a := s.Media.Audio; a != nil {
		share := 1.0
		if sp := s.Speakers; sp != nil && s.Rooms.Publishers > 0 {
			share = min(float64(sp.Active)/float64(s.Rooms.Publishers), 1)
		}
		voice := ofMedia(audioRate, float64(a.Bitrate)).times(share)
		sent, got = sent.plus(voice), got.plus(voice)
	}
	if d := s.Data; d != nil {
		packets := d.Rate * math.Ceil(float64(max(d.Size, 1))/clip.MTU)
		messages := ofMedia(packets, d.Rate*float64(d.Size)*8)
		sent, got = sent.plus(messages), got.plus(messages)
	}
	return sent, got
}

// LoadOf returns the peak load of a scenario whose defaults are filled in. It
// returns ErrScenario for kinds without media of the generator.
func LoadOf(s *scenario.Scenario) (Load, error) {
	if s.Kind != result.KindMedia && s.Kind != result.KindRecording {
		return Load{}, fmt.Errorf("%w: plans are for the kinds media and recording, not %q", ErrScenario, s.Kind)
	}
	if s.Rooms.Existing != "" {
		return Load{}, fmt.Errorf("%w: what an existing room sends is not known before the run", ErrScenario)
	}
	return loadOf(s, s), nil
}

// loadOf returns the load of a worker's part: its subscribers receive the media
// of all publishers of the whole scenario, whichever worker runs them.
func loadOf(part, whole *scenario.Scenario) Load {
	l := Load{Publishers: float64(part.Rooms.Count * part.Rooms.Publishers), Witnesses: whole.Witnesses}
	l.Subscribers = part.Load.Peak(part.Rooms.Count * part.Rooms.Subscribers)
	if part.Load.Mode == scenario.Open {
		l.Joins = l.Subscribers // arrivals per second
		if len(part.Load.Stages) == 0 {
			l.Joins = part.Load.JoinRate
		}
		l.Subscribers = l.Joins * part.Load.Stay.Seconds() // Little's law
	} else {
		l.Joins = part.Load.JoinRate
		if c := part.Load.Churn; c != nil && c.HalfLife > 0 {
			l.Joins = max(l.Joins, l.Subscribers*math.Ln2/c.HalfLife.Seconds())
		}
	}
	each := whole.Rooms.Publishers
	if n := whole.Rooms.Subscriptions; n > 0 {
		each = min(each, n)
	}
	sent, got := publisher(whole)
	sent, got = sent.times(l.Publishers), got.times(l.Subscribers*float64(each))
	l.SentPackets, l.SentBits, l.ReceivedPackets, l.ReceivedBits = sent.packets, sent.bits, got.packets, got.bits
	for _, p := range whole.Paths {
		if strings.HasPrefix(p, "turn-") {
			l.TURN += 1 / float64(len(whole.Paths))
		}
	}
	return l
}

// Participants is the number of publishers and subscribers.
func (l Load) Participants() float64 { return l.Publishers + l.Subscribers }

// Wire is the rate in a network card's busier direction, in bit/s.
func (l Load) Wire() float64 {
	return max(l.SentBits+l.SentPackets*wireBytes*8, l.ReceivedBits+l.ReceivedPackets*wireBytes*8)
}
