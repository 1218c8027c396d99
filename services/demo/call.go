package demo

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/pion/webrtc/v4"

	roomv1 "github.com/openova-io/bp-relay/gen/relay/room/v1"
	turnv1 "github.com/openova-io/bp-relay/gen/relay/turn/v1"

	"github.com/openova-io/bp-relay/services/media"
)

// connectWithin bounds how long a participant may take to connect.
const connectWithin = 20 * time.Second

// call is the room and who is in it.
type call struct {
	room         string
	participants []participant
}

type participant struct {
	identity  string
	publisher *media.Publisher
}

// join makes the room and lets two participants in.
func (r *run) join(ctx context.Context) error {
	out, err := r.api.rooms.CreateRoom(r.api.as(ctx, backend), &roomv1.CreateRoomRequest{
		Parent: r.org(), RoomId: "demo-" + r.tag, RequestId: uuid.NewString(), Room: &roomv1.Room{DisplayName: "The demo's call"},
	})
	if err != nil {
		return err
	}
	r.call.room = out.GetRoom().GetName()
	if !r.cfg.Keep {
		r.later(func(ctx context.Context) error {
			_, err := r.api.rooms.DeleteRoom(r.api.as(ctx, backend), &roomv1.DeleteRoomRequest{Name: r.call.room})
			return err
		})
	}
	r.story.ok("room %s", r.call.room)
	gateways, err := r.api.turn.ListGateways(r.api.as(ctx, backend), &turnv1.ListGatewaysRequest{Parent: r.org()})
	if err != nil {
		return err
	}
	if err := r.publish(ctx, "ann", 440, false); err != nil {
		return err
	}
	if err := r.publish(ctx, "bob", 660, true); err != nil {
		return err
	}
	if err := r.paths(gateways.GetGateways()); err != nil {
		return err
	}
	// What is looked at is a flow, not a start.
	return until(ctx, connectWithin, "media from both participants", func() (bool, error) {
		return !slices.ContainsFunc(r.call.participants, func(p participant) bool { return p.publisher.Sent() < 100_000 }), r.publishing()
	})
}

// publish asks for a way in and sends a picture with a clock and a tone.
func (r *run) publish(ctx context.Context, identity string, tone int, relayOnly bool) error {
	dir, err := r.mediaDir()
	if err != nil {
		return err
	}
	// The clip outlasts a recording of up to 50 s, so that the clock in the
	// picture does not jump; then it begins again.
	length := min(time.Duration((r.cfg.Seconds+19)/10)*10*time.Second, time.Minute)
	var clip *media.Clip
	err = r.story.during("making "+identity+"'s media with ffmpeg (the first time only)", func() (err error) {
		clip, err = media.Make(ctx, dir, media.Spec{Tone: tone, Length: length})
		return err
	})
	if err != nil {
		return err
	}
	way, err := r.api.rooms.JoinRoom(r.api.as(ctx, backend), &roomv1.JoinRoomRequest{
		Name: r.call.room, Identity: identity, Grants: &roomv1.Grants{Publish: true}, RelayOnly: relayOnly,
	})
	if err != nil {
		return err
	}
	cfg := media.PublishConfig{URL: way.GetUrl(), Token: way.GetToken(), ICEServers: []webrtc.ICEServer{}, RelayOnly: way.GetIceTransportPolicy() == "relay", Clip: clip, Logger: r.log}
	for _, s := range way.GetIceServers() {
		cfg.ICEServers = append(cfg.ICEServers, webrtc.ICEServer{URLs: s.GetUrls(), Username: s.GetUsername(), Credential: s.GetCredential()})
	}
	if relayOnly && !cfg.RelayOnly {
		return errors.New("the join answer for a participant with relay_only does not say so")
	}
	within, cancel := context.WithTimeout(ctx, connectWithin)
	defer cancel()
	p, err := media.Publish(within, cfg)
	if err != nil {
		return fmt.Errorf("%s does not get into the call within %s: %w", identity, connectWithin, err)
	}
	r.later(func(context.Context) error {
		if err := p.Close(); !errors.Is(err, media.ErrLeft) { // LiveKit's word on our leaving
			return err
		}
		return nil
	})
	r.call.participants = append(r.call.participants, participant{identity, p})
	return nil
}

// paths shows which way each one's media takes, and insists on the gateway
// for the second.
func (r *run) paths(gateways []*turnv1.Gateway) error {
	for i, p := range r.call.participants {
		pair, err := p.publisher.Pair()
		if err != nil {
			return fmt.Errorf("%s: %w", p.identity, err)
		}
		if i == 0 {
			r.story.ok("%s may use any path, and uses   %s", p.identity, pair)
			continue
		}
		g, err := through(pair, gateways)
		if err != nil {
			return fmt.Errorf("%s must go through TURN only, and uses %s: %w", p.identity, pair, err)
		}
		r.story.ok("%s may use only TURN, and uses  %s", p.identity, pair)
		r.story.note("relayed by %s at %s, which may reach %s and nothing else", g.GetName(), listeners(g), strings.Join(g.GetPeers(), ", "))
	}
	return nil
}

// through finds the gateway that a pair goes through: the local end is an
// allocation on its address, the remote end one of its peers.
func through(pair media.Pair, gateways []*turnv1.Gateway) (*turnv1.Gateway, error) {
	if pair.Local.Type != "relay" {
		return nil, fmt.Errorf("the local candidate is %q, not a relay's", pair.Local.Type)
	}
	for _, g := range gateways {
		ours := slices.ContainsFunc(g.GetListeners(), func(l *turnv1.Listener) bool { return l.GetAddress() == pair.Local.Address })
		if ours && slices.ContainsFunc(g.GetPeers(), func(peer string) bool { return inPeer(peer, pair.Remote) }) {
			return g, nil
		}
	}
	return nil, errors.New("no gateway of ours has that address and that peer")
}

// inPeer says whether a candidate lies in "address:first-last".
func inPeer(peer string, c media.Candidate) bool {
	host, ports, err := net.SplitHostPort(peer)
	if err != nil || host != c.Address {
		return false
	}
	lo, hi, _ := strings.Cut(ports, "-")
	first, err1 := strconv.Atoi(lo)
	last, err2 := strconv.Atoi(hi)
	return err1 == nil && err2 == nil && first <= c.Port && c.Port <= last
}

func listeners(g *turnv1.Gateway) string {
	var out []string
	for _, l := range g.GetListeners() {
		out = append(out, fmt.Sprintf("%s/%s", net.JoinHostPort(l.GetAddress(), strconv.Itoa(int(l.GetPort()))), strings.ToLower(strings.TrimPrefix(l.GetProtocol().String(), "PROTOCOL_"))))
	}
	return strings.Join(out, " and ")
}

// publishing is an error once a participant has fallen out of the call.
func (r *run) publishing() error {
	for _, p := range r.call.participants {
		select {
		case <-p.publisher.Done():
			return fmt.Errorf("%s fell out of the call: %w", p.identity, p.publisher.Close())
		default:
		}
	}
	return nil
}
