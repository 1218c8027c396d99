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

	"github.com/openova-io/bp-relay/services/dev/testmedia"
)

// connectWithin bounds how long a participant may take to connect.
const connectWithin = 20 * time.Second

// call is the room and its participants.
type call struct {
	room         string
	participants []participant
}

type participant struct {
	identity  string
	publisher *testmedia.Publisher
}

// join creates the room and has two participants join it.
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
	// The recording is checked for steady media, so wait for more than its start.
	return until(ctx, connectWithin, "media from both participants", func() (bool, error) {
		return !slices.ContainsFunc(r.call.participants, func(p participant) bool { return p.publisher.Sent() < 100_000 }), r.publishing()
	})
}

// publish gets a join answer and sends a picture with a clock, and a tone.
func (r *run) publish(ctx context.Context, identity string, tone int, relayOnly bool) error {
	dir, err := r.mediaDir()
	if err != nil {
		return err
	}
	// The clip is longer than a recording of up to 50 s, so that the clock in the
	// picture does not jump; in longer ones it starts again.
	length := min(time.Duration((r.cfg.Seconds+19)/10)*10*time.Second, time.Minute)
	var clip *testmedia.Clip
	err = r.story.during("making "+identity+"'s media with ffmpeg (the first time only)", func() (err error) {
		clip, err = testmedia.Make(ctx, dir, testmedia.Spec{Tone: tone, Length: length})
		return err
	})
	if err != nil {
		return err
	}
	answer, err := r.api.rooms.JoinRoom(r.api.as(ctx, backend), &roomv1.JoinRoomRequest{
		Name: r.call.room, Identity: identity, Grants: &roomv1.Grants{Publish: true}, RelayOnly: relayOnly,
	})
	if err != nil {
		return err
	}
	cfg := testmedia.PublishConfig{URL: answer.GetUrl(), Token: answer.GetToken(), ICEServers: []webrtc.ICEServer{}, RelayOnly: answer.GetIceTransportPolicy() == "relay", Clip: clip, Logger: r.log}
	for _, s := range answer.GetIceServers() {
		cfg.ICEServers = append(cfg.ICEServers, webrtc.ICEServer{URLs: s.GetUrls(), Username: s.GetUsername(), Credential: s.GetCredential()})
	}
	if relayOnly && !cfg.RelayOnly {
		return errors.New("the join answer for a participant with relay_only does not say so")
	}
	within, cancel := context.WithTimeout(ctx, connectWithin)
	defer cancel()
	p, err := testmedia.Publish(within, cfg)
	if err != nil {
		return fmt.Errorf("%s cannot join the call within %s: %w", identity, connectWithin, err)
	}
	r.later(func(context.Context) error {
		if err := p.Close(); !errors.Is(err, testmedia.ErrLeft) { // LiveKit confirms that it left
			return err
		}
		return nil
	})
	r.call.participants = append(r.call.participants, participant{identity, p})
	return nil
}

// paths prints the path of each participant's media. The second one's must go
// through the gateway.
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

// through returns the gateway of a candidate pair: its local end is an allocation
// on the gateway's address, its remote end one of the gateway's peers.
func through(pair testmedia.Pair, gateways []*turnv1.Gateway) (*turnv1.Gateway, error) {
	if pair.Local.Type != "relay" {
		return nil, fmt.Errorf("the local candidate is %q: want relay", pair.Local.Type)
	}
	for _, g := range gateways {
		listens := slices.ContainsFunc(g.GetListeners(), func(l *turnv1.Listener) bool { return l.GetAddress() == pair.Local.Address })
		if listens && slices.ContainsFunc(g.GetPeers(), func(peer string) bool { return inPeer(peer, pair.Remote) }) {
			return g, nil
		}
	}
	return nil, errors.New("no gateway has that address and that peer")
}

// inPeer reports whether a candidate lies in "address:first-last".
func inPeer(peer string, c testmedia.Candidate) bool {
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

// publishing returns an error if a participant has been removed from the call.
func (r *run) publishing() error {
	for _, p := range r.call.participants {
		select {
		case <-p.publisher.Done():
			return fmt.Errorf("%s was removed from the call: %w", p.identity, p.publisher.Close())
		default:
		}
	}
	return nil
}
