package peer

import "github.com/openova-io/bp-relay/loadtest/flow"

// Layers are all of the publisher's.
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

// Publications are the layers as the ledger takes them.
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

// Numbers is how many packets have been sent so far, by track and layer.
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
