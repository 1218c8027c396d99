package run

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/openova-io/bp-relay/loadtest/internal/scenario"
	"github.com/openova-io/bp-relay/services/rtc"
)

// subscriber is one subscriber that has joined or is joining.
type subscriber struct {
	vu        vu
	rcv       *receiver
	transport *rtc.Subscriber
	leaveAt   time.Time // open mode: when it leaves; zero: when the population shrinks
}

// join starts the join of a VU that was due at due; in open mode it leaves at
// until.
func (e *executor) join(v vu, due, until time.Time) {
	e.mu.Lock()
	e.pending++
	e.mu.Unlock()
	v.pop.mu.Lock()
	v.pop.joins.Attempted++
	v.pop.mu.Unlock()
	e.joins.Go(func() {
		sub := &subscriber{vu: v, leaveAt: until}
		err := e.connect(sub, due)
		e.mu.Lock()
		e.pending--
		if err == nil {
			e.joined[sub] = struct{}{}
		} else if e.load.Mode != scenario.Open {
			e.failed = append(e.failed, retry{v, time.Now().Add(retryAfter)})
		}
		e.mu.Unlock()
		if err != nil {
			v.pop.mu.Lock()
			if e.r.cut.Load() && e.r.ctx.Err() != nil {
				v.pop.joins.Attempted-- // the interrupted run cancelled it
			} else {
				v.pop.joins.Failed++
			}
			v.pop.mu.Unlock()
			e.r.fault(fmt.Errorf("join on %s: %w", v.pop.name, err))
			return
		}
		e.wg.Go(func() { e.watch(sub) })
	})
}

// connect joins the room and waits for the media transport.
func (e *executor) connect(sub *subscriber, due time.Time) error {
	pop := sub.vu.pop
	pop.mu.Lock()
	shard := pop.shards[pop.nextShard%shards]
	pop.nextShard++
	pop.mu.Unlock()
	identity := fmt.Sprintf("subscriber-%d-%d-%d", e.r.part().Worker, sub.vu.index, e.r.identities.Add(1))
	ctx, cancel := context.WithTimeout(e.r.ctx, joinWithin)
	defer cancel()
	cfg, err := e.r.joinConfig(ctx, sub.vu.room, identity, pop.name, false)
	if err != nil {
		return err
	}
	rcv := newReceiver(shard, pop.name, identity, due)
	rcv.nack, rcv.remb = cfg.NACK, e.r.s.BWE == "remb"
	if e.r.isWitness(sub.vu) {
		rcv.witness = &witness{judged: e.r.o.judged}
	}
	conf := rtc.SubscriberConfig{
		Sink: rcv, OnTracks: rcv.tracks, OnRTCP: rcv.reports, OnMute: rcv.muted, REMB: rcv.remb,
		Choose: chooser(sub.vu.inRoom, e.r.s.Rooms.Subscriptions, e.r.s.Rooms.Publishers),
	}
	if e.r.s.Data != nil {
		conf.OnData = rcv.message
	}
	if v := e.r.s.Media.Video; v != nil && (v.Simulcast > 1 || v.SVC != "") {
		conf.Quality = quality(v, rand.New(rand.NewPCG(e.r.s.Seed, uint64(sub.vu.index))))
	}
	shard.mu.Lock()
	shard.live[rcv] = struct{}{}
	shard.mu.Unlock()
	if im := e.r.impairment(sub.vu.room, identity, pop.name, false); im != nil {
		conf.Sink = im.Sink(rcv)
	}
	transport, err := rtc.Subscribe(ctx, cfg, conf)
	if err != nil {
		rcv.leave(departure{})
		return err
	}
	took := time.Since(due)
	if err := e.succeeded(sub, rcv, transport, took); err != nil {
		rcv.leave(departure{})
		return errors.Join(err, transport.Close())
	}
	return nil
}

// succeeded records a join that succeeded.
func (e *executor) succeeded(sub *subscriber, rcv *receiver, transport *rtc.Subscriber, took time.Duration) error {
	pop := sub.vu.pop
	pair, err := transport.Pair()
	if err != nil {
		return err
	}
	rcv.shard.mu.Lock()
	rcv.sub = transport
	if rcv.witness != nil {
		rcv.witness.ctx, err = transport.Decrypter()
	}
	rcv.shard.mu.Unlock()
	if err != nil {
		return err
	}
	pop.mu.Lock()
	defer pop.mu.Unlock()
	pop.joins.Succeeded++
	pop.joined++
	pop.joinTime.Record(took)
	pop.pairs[pair.Kind()]++
	if !pair.Is(pop.name) {
		pop.wrongPath++
	}
	pop.current++
	if e.r.mediaEnd.Load() == 0 { // later ones receive no media
		pop.peak = max(pop.peak, pop.current)
	}
	if rcv.witness != nil {
		pop.witnesses++
	} else {
		pop.headers++
	}
	sub.rcv, sub.transport = rcv, transport
	return nil
}

// leave makes a subscriber leave; it does nothing for nil.
func (e *executor) leave(sub *subscriber) {
	if sub == nil {
		return
	}
	e.mu.Lock()
	_, joined := e.joined[sub]
	delete(e.joined, sub)
	if joined {
		e.release(sub.vu)
	}
	e.mu.Unlock()
	if !joined {
		return
	}
	e.endOutage(sub.vu.index, time.Now()) // it left before media returned
	e.finish(sub, departure{})
}

// finish closes a subscriber and adds its counts to its population.
func (e *executor) finish(sub *subscriber, how departure) {
	pop := sub.vu.pop
	packet, frame, _ := sub.rcv.leave(how)
	if packet > 0 {
		e.endOutage(sub.vu.index, sub.rcv.due.Add(packet))
	}
	pop.mu.Lock()
	pop.current--
	pop.joins.Left++
	pop.firsts(packet, frame)
	pop.mu.Unlock()
	e.wg.Go(func() { _ = sub.transport.Close() }) // LiveKit times out a participant whose leave request is lost
}

// sendFeedback sends each subscriber's RTCP feedback that is due.
func (e *executor) sendFeedback(now time.Time) {
	for _, sub := range e.subscribers() {
		pkts, packet, frame := sub.rcv.feedback(now)
		if len(pkts) > 0 {
			_ = sub.transport.WriteRTCP(pkts) // watch handles a transport that has failed
		}
		if packet > 0 || frame > 0 {
			sub.vu.pop.mu.Lock()
			sub.vu.pop.firsts(packet, frame)
			sub.vu.pop.mu.Unlock()
		}
		if packet > 0 {
			e.endOutage(sub.vu.index, sub.rcv.due.Add(packet))
		}
	}
}
