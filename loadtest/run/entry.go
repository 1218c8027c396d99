package run

import (
	"context"
	"fmt"
	"net/netip"
	"net/url"

	"github.com/openova-io/bp-relay/loadtest/peer"
	"github.com/openova-io/bp-relay/loadtest/scenario"
	"github.com/openova-io/bp-relay/loadtest/wire"
)

// entry is what a participant joins with.
func (r *runner) entry(ctx context.Context, room int, identity, path string, publish bool) (peer.Config, error) {
	e, err := r.o.Place.Enter(ctx, r.rooms[room], identity, path, publish)
	if err != nil {
		return peer.Config{}, err
	}
	cfg := peer.Config{Engine: r.engine, URL: e.URL, Token: e.Token, Path: path, TURN: e.TURN, TLS: e.TLS, NACK: *r.s.NACK}
	host, err := hostOf(e, path)
	if err != nil {
		return peer.Config{}, err
	}
	if cfg.Local, err = r.localFor(host); err != nil {
		return peer.Config{}, err
	}
	if f := r.s.Fault; f != nil {
		if publish {
			cfg.Impair = r.impairment(f.Publish, true)
		} else {
			cfg.Impair = r.impairment(f.Receive, false)
		}
		if r.o.impaired != nil && cfg.Impair != nil {
			r.o.impaired(fmt.Sprint(room, " ", path, " ", identity), cfg.Impair)
		}
	}
	return cfg, nil
}

// hostOf is who media is exchanged with first: the SFU, by its signalling's
// name, or the TURN server.
func hostOf(e Entry, path string) (string, error) {
	if path != peer.Direct {
		return peer.Host(e.TURN.URL)
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
	a, err := peer.LocalFor(host)
	if err == nil {
		r.local[host] = a
	}
	return a, err
}

// impairment is what the scenario does to a participant's media.
func (r *runner) impairment(i scenario.Impair, send bool) *wire.Impairment {
	if i.Loss == 0 && i.Delay == 0 {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	im := wire.NewImpairment(r.s.Seed + uint64(len(r.impaired)))
	if send {
		im.SendLoss, im.SendDelay = i.Loss, i.Delay
	} else {
		im.ReceiveLoss, im.ReceiveDelay = i.Loss, i.Delay
	}
	r.impaired = append(r.impaired, im)
	return im
}
