package run

import (
	"context"
	"fmt"
	"net/netip"
	"net/url"

	"github.com/openova-io/bp-relay/loadtest/internal/participant"
	"github.com/openova-io/bp-relay/services/rtc"
)

// joinConfig returns the configuration with which a participant joins a room.
func (r *runner) joinConfig(ctx context.Context, room int, identity, path string, publish bool) (rtc.Config, error) {
	e, err := r.o.SUT.JoinRoom(ctx, r.rooms[room], identity, path, publish)
	if err != nil {
		return rtc.Config{}, err
	}
	cfg := rtc.Config{Engine: r.engine, URL: e.URL, Token: e.Token, Path: path, TURN: e.TURN, TLS: e.TLS, NACK: *r.s.NACK}
	host, err := hostOf(e, path)
	if err != nil {
		return rtc.Config{}, err
	}
	if cfg.Local, err = r.localFor(host); err != nil {
		return rtc.Config{}, err
	}
	return cfg, nil
}

// hostOf returns the host that media is exchanged with first: the SFU, by the
// name in its signalling URL, or the TURN server.
func hostOf(e JoinAnswer, path string) (string, error) {
	if path != rtc.Direct {
		return rtc.TURNHost(e.TURN.URL)
	}
	u, err := url.Parse(e.URL)
	if err != nil {
		return "", fmt.Errorf("LiveKit's address: %w", err)
	}
	return u.Hostname(), nil
}

func (r *runner) localFor(host string) (netip.Addr, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if a, ok := r.local[host]; ok {
		return a, nil
	}
	a, err := rtc.LocalAddr(host)
	if err == nil {
		r.local[host] = a
	}
	return a, err
}

// impairment returns the scenario's impairment of the media that a participant sends or
// receives, nil if there is none.
func (r *runner) impairment(room int, identity, path string, publish bool) *participant.Impairment {
	if r.s.Fault == nil {
		return nil
	}
	i := r.s.Fault.Receive
	if publish {
		i = r.s.Fault.Publish
	}
	if i.Loss == 0 && i.Delay == 0 {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	im := participant.NewImpairment(r.s.Seed + uint64(len(r.impaired)))
	im.Loss, im.Delay = i.Loss, i.Delay
	r.impaired = append(r.impaired, im)
	if r.o.impaired != nil {
		r.o.impaired(fmt.Sprint(room, " ", path, " ", identity), publish, im)
	}
	return im
}
