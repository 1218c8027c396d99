package participant

import "github.com/openova-io/bp-relay/loadtest/internal/flow"

// Layer is one layer of a track, with the counts of what has been sent so far.
type Layer struct {
	SID   string
	Video bool
	Layer uint8
	SSRC  uint32
	Sent  flow.SentCounters
}

// Layers returns all layers of the publisher.
func (p *Publisher) Layers() []Layer {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []Layer
	for _, t := range p.tracks {
		for _, s := range t.layers {
			out = append(out, Layer{SID: t.sid, Video: t.video, Layer: s.layer, SSRC: s.ssrc, Sent: s.sent.Counters()})
		}
	}
	return out
}

// Publications returns all layers in the form that flow.Attribute needs.
func (p *Publisher) Publications() []flow.Publication {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []flow.Publication
	for _, t := range p.tracks {
		for _, s := range t.layers {
			out = append(out, s.sent.Publication(t.sid, s.layer, !t.video))
		}
	}
	return out
}

// Numbers returns the number of packets sent so far, by SID and layer.
func (p *Publisher) Numbers() map[string]map[uint8]uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := map[string]map[uint8]uint64{}
	for _, t := range p.tracks {
		layers := map[uint8]uint64{}
		for _, s := range t.layers {
			layers[s.layer] = s.sent.Seq()
		}
		out[t.sid] = layers
	}
	return out
}
