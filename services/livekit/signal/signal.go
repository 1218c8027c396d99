// Package signal is the client side of LiveKit's signalling: protobuf messages
// over a WebSocket (livekit_rtc.proto of livekit/protocol).
package signal

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
	"github.com/livekit/protocol/livekit"
	"google.golang.org/protobuf/proto"
)

// protocol is the version of LiveKit's signalling that Dial asks for.
const protocol = 16

// maxMessage bounds one message in bytes; the largest lists a room's
// participants.
const maxMessage = 16 << 20

// Conn is a signalling connection. Only one goroutine may call Read; the other
// methods are safe for concurrent use.
type Conn struct {
	conn *websocket.Conn
	mu   sync.Mutex // one Send at a time
}

// RefusedError says that LiveKit did not let the participant join.
type RefusedError struct {
	// Status is the HTTP status; 0 if the WebSocket was open already.
	Status int
	// Reason is what LiveKit sent over the open WebSocket.
	Reason string
}

func (e *RefusedError) Error() string {
	switch e.Status {
	case 0:
		return "LiveKit refused the participant: " + e.Reason
	case http.StatusUnauthorized, http.StatusForbidden:
		return fmt.Sprintf("LiveKit answered %d and does not accept the token; check the API key, its secret and the clocks", e.Status)
	}
	return fmt.Sprintf("LiveKit answered %d", e.Status)
}

// Dial joins a room at LiveKit's address (ws:// or http://) and returns
// LiveKit's first message. With subscribe, LiveKit offers every track of the
// room. The error is a *RefusedError if LiveKit refused.
func Dial(ctx context.Context, address, token string, subscribe bool) (*Conn, *livekit.JoinResponse, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, nil, fmt.Errorf("LiveKit's address: %w", err)
	}
	u.Scheme = strings.Replace(u.Scheme, "http", "ws", 1)
	u = u.JoinPath("rtc")
	auto := "0"
	if subscribe {
		auto = "1"
	}
	u.RawQuery = url.Values{
		"protocol": {fmt.Sprint(protocol)}, "auto_subscribe": {auto}, "sdk": {"go"}, "version": {"1"},
	}.Encode()
	conn, resp, err := websocket.Dial(ctx, u.String(), //nolint:bodyclose // Dial documents that the caller need not close it
		&websocket.DialOptions{HTTPHeader: http.Header{"Authorization": {"Bearer " + token}}})
	if err != nil {
		if resp != nil {
			return nil, nil, fmt.Errorf("join room: %w", &RefusedError{Status: resp.StatusCode})
		}
		return nil, nil, fmt.Errorf("join room: %w", err)
	}
	conn.SetReadLimit(maxMessage)
	s := &Conn{conn: conn}
	msg, err := s.Read(ctx)
	if err != nil {
		_ = conn.CloseNow()
		return nil, nil, fmt.Errorf("join room: %w", err)
	}
	join := msg.GetJoin()
	if join == nil {
		_ = conn.CloseNow()
		return nil, nil, fmt.Errorf("join room: %w", &RefusedError{Reason: fmt.Sprintf("%T, reason %v", msg.Message, msg.GetLeave().GetReason())})
	}
	return s, join, nil
}

// Read waits for the next message from LiveKit.
func (s *Conn) Read(ctx context.Context) (*livekit.SignalResponse, error) {
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

// Send sends a message to LiveKit; it fails after 5 s.
func (s *Conn) Send(msg *livekit.SignalRequest) error {
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

// candidateInit is RTCIceCandidateInit of W3C WebRTC.
type candidateInit struct {
	Candidate     string  `json:"candidate"`
	SDPMid        *string `json:"sdpMid"`
	SDPMLineIndex *uint16 `json:"sdpMLineIndex"`
}

// SendCandidate sends LiveKit a local ICE candidate in the form of its SDP
// attribute, "candidate:..." (RFC 8839 §5.1).
func (s *Conn) SendCandidate(candidate string, target livekit.SignalTarget) error {
	mid, index := "", uint16(0)
	init, err := json.Marshal(candidateInit{Candidate: candidate, SDPMid: &mid, SDPMLineIndex: &index})
	if err != nil {
		return err
	}
	return s.Send(&livekit.SignalRequest{Message: &livekit.SignalRequest_Trickle{
		Trickle: &livekit.TrickleRequest{CandidateInit: string(init), Target: target},
	}})
}

// Candidate reads a remote ICE candidate; "" means that no more will follow.
func Candidate(t *livekit.TrickleRequest) (string, error) {
	var init candidateInit
	if err := json.Unmarshal([]byte(t.GetCandidateInit()), &init); err != nil {
		return "", fmt.Errorf("candidate from LiveKit: %w", err)
	}
	return init.Candidate, nil
}

// Close closes the WebSocket without telling LiveKit that the participant
// leaves.
func (s *Conn) Close() error { return s.conn.CloseNow() }
