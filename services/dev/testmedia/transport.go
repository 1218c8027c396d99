package testmedia

import (
	"errors"

	"github.com/livekit/protocol/livekit"
	"github.com/pion/webrtc/v4"

	"github.com/openova-io/bp-relay/services/livekit/signal"
)

// transport is one PeerConnection, with the candidates that arrived before its
// remote description.
type transport struct {
	*webrtc.PeerConnection
	early []webrtc.ICECandidateInit
}

func (p *transport) candidate(t *livekit.TrickleRequest) error {
	candidate, err := signal.Candidate(t)
	if err != nil {
		return err
	}
	init := webrtc.ICECandidateInit{Candidate: candidate}
	if p.RemoteDescription() == nil {
		p.early = append(p.early, init)
		return nil
	}
	return p.AddICECandidate(init)
}

func (p *transport) remote(kind webrtc.SDPType, sdp string) error {
	err := p.SetRemoteDescription(webrtc.SessionDescription{Type: kind, SDP: sdp})
	for _, c := range p.early {
		err = errors.Join(err, p.AddICECandidate(c))
	}
	p.early = nil
	return err
}
