package media

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
	"github.com/livekit/protocol/livekit"
	"github.com/pion/webrtc/v4"
	"google.golang.org/protobuf/proto"
)

// protocol is the version of LiveKit's signalling that is spoken here.
const protocol = 16

// signal is the WebSocket to LiveKit: protobuf messages in both directions.
type signal struct {
	conn *websocket.Conn
	mu   sync.Mutex
}

// dial opens the signalling connection and returns the server's first word.
func dial(ctx context.Context, address, token string) (*signal, *livekit.JoinResponse, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, nil, fmt.Errorf("LiveKit's address: %w", err)
	}
	u.Scheme = strings.Replace(u.Scheme, "http", "ws", 1)
	u = u.JoinPath("rtc")
	u.RawQuery = url.Values{
		"protocol": {fmt.Sprint(protocol)}, "auto_subscribe": {"0"}, "sdk": {"go"}, "version": {"1"},
	}.Encode()
	conn, resp, err := websocket.Dial(ctx, u.String(), //nolint:bodyclose // you never need to close it, says Dial
		&websocket.DialOptions{HTTPHeader: http.Header{"Authorization": {"Bearer " + token}}})
	if err != nil {
		if resp != nil {
			return nil, nil, fmt.Errorf("join room: LiveKit answered %s", resp.Status)
		}
		return nil, nil, fmt.Errorf("join room: %w", err)
	}
	conn.SetReadLimit(4 << 20)
	s := &signal{conn: conn}
	msg, err := s.read(ctx)
	if err != nil {
		_ = conn.CloseNow()
		return nil, nil, fmt.Errorf("join room: %w", err)
	}
	join := msg.GetJoin()
	if join == nil {
		_ = conn.CloseNow()
		return nil, nil, fmt.Errorf("join room: LiveKit began with %T, reason %v", msg.Message, msg.GetLeave().GetReason())
	}
	return s, join, nil
}

func (s *signal) read(ctx context.Context) (*livekit.SignalResponse, error) {
	for {
		kind, data, err := s.conn.Read(ctx)
		if err != nil {
			return nil, err
		}
		if kind != websocket.MessageBinary {
			continue
		}
		msg := &livekit.SignalResponse{}
		if err := proto.Unmarshal(data, msg); err != nil {
			return nil, fmt.Errorf("message from LiveKit: %w", err)
		}
		return msg, nil
	}
}

func (s *signal) send(msg *livekit.SignalRequest) error {
	data, err := proto.Marshal(msg)
	if err != nil {
		return fmt.Errorf("message to LiveKit: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return s.conn.Write(ctx, websocket.MessageBinary, data)
}

func (s *signal) sendCandidate(c *webrtc.ICECandidate, target livekit.SignalTarget) error {
	init, err := json.Marshal(c.ToJSON())
	if err != nil {
		return err
	}
	return s.send(&livekit.SignalRequest{Message: &livekit.SignalRequest_Trickle{
		Trickle: &livekit.TrickleRequest{CandidateInit: string(init), Target: target},
	}})
}

// peer is one PeerConnection with the candidates that came too early.
type peer struct {
	*webrtc.PeerConnection
	early []webrtc.ICECandidateInit
}

func (p *peer) candidate(t *livekit.TrickleRequest) error {
	var init webrtc.ICECandidateInit
	if err := json.Unmarshal([]byte(t.CandidateInit), &init); err != nil {
		return fmt.Errorf("candidate from LiveKit: %w", err)
	}
	if p.RemoteDescription() == nil {
		p.early = append(p.early, init)
		return nil
	}
	return p.AddICECandidate(init)
}

func (p *peer) remote(kind webrtc.SDPType, sdp string) error {
	err := p.SetRemoteDescription(webrtc.SessionDescription{Type: kind, SDP: sdp})
	for _, c := range p.early {
		err = errors.Join(err, p.AddICECandidate(c))
	}
	p.early = nil
	return err
}
