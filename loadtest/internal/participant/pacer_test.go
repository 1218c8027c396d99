package participant

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/loadtest/internal/clip"
	"github.com/openova-io/bp-relay/loadtest/internal/result"
	"github.com/openova-io/bp-relay/services/rtc/socket"
)

// run runs a pacer; stop stops it and waits for it.
func run(p *Pacer) (stop func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	return func() error {
		cancel()
		return <-done
	}
}

// TestPacer: frames of many publishers are sent in the order in which they are
// due, none early.
func TestPacer(t *testing.T) {
	pacer, err := NewPacer()
	require.NoError(t, err)
	defer func() { require.NoError(t, pacer.Close()) }()
	stop := run(pacer)
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetReadBuffer(4<<20))
	var outs []*outlet
	for i := range 5 {
		cfg := PublisherConfig{Audio: sound(10), Video: []*clip.Clip{movie(4, 50+i, 4)}, Pacer: pacer, Phase: time.Duration(i) * 3 * time.Millisecond}
		outs = append(outs, outletTo(t, cfg, conn))
	}
	for _, o := range outs {
		o.start()
	}
	time.Sleep(300 * time.Millisecond)
	now := time.Now().UnixNano()
	total, frames := 0, int64(0)
	for _, o := range outs {
		o.Stop()
		for _, l := range o.Layers() {
			total += int(l.Sent.Packets)
			frames += l.Sent.Frames
		}
		require.NoError(t, o.SendErr())
	}
	// Stopped sources are removed when they would be due, without delaying others.
	require.Eventually(t, func() bool {
		pacer.mu.Lock()
		defer pacer.mu.Unlock()
		return len(pacer.queue) == 0
	}, 10*time.Second, time.Millisecond)
	require.NoError(t, stop())
	last := int64(0)
	for _, p := range outs[0].take(t, total) {
		require.GreaterOrEqual(t, p.stamp.Intended, last)
		require.LessOrEqual(t, p.stamp.Intended, now)
		last = p.stamp.Intended
	}
	require.Greater(t, frames, int64(50))
	h := result.NewHist()
	pacer.Lag(h)
	require.Equal(t, frames, h.Count())
	h.Reset()
	pacer.Lag(h)
	require.Zero(t, h.Count(), "it was emptied")
}

// TestPacerOverload: it stops even while more is due than it can send.
func TestPacerOverload(t *testing.T) {
	pacer, err := NewPacer()
	require.NoError(t, err)
	defer func() { require.NoError(t, pacer.Close()) }()
	o := newOutlet(t, PublisherConfig{Audio: sound(10)})
	o.begin(time.Now().Add(-1000 * time.Hour).UnixNano())
	s := o.tracks[0].layers[0]
	stop := run(pacer)
	pacer.add(s)
	require.Eventually(t, func() bool { return o.Layers()[0].Sent.Packets > 0 }, 10*time.Second, time.Millisecond)
	require.NoError(t, stop())
	require.Less(t, s.due, time.Now().UnixNano(), "it had more to send")
}

// TestSourceNoGarbage: sending a frame does not allocate.
func TestSourceNoGarbage(t *testing.T) {
	for name, cfg := range map[string]PublisherConfig{
		"single": {Video: []*clip.Clip{movie(4, 30, 4)}}, "simulcast": {Video: []*clip.Clip{movie(4, 30, 4), movie(4, 30, 4)}}, "sound": {Audio: sound(10)},
	} {
		t.Run(name, func(t *testing.T) {
			o := newOutlet(t, cfg)
			o.begin(noon)
			s, b := o.tracks[0].layers[0], new(socket.Burst)
			for range 100 {
				s.send(b) // buffers grow
			}
			const frames = 1000
			before := s.sent.Counters().Packets
			each := testing.AllocsPerRun(frames-1, func() { s.send(b) })
			packets := s.sent.Counters().Packets - before
			require.Zero(t, each)
			require.NoError(t, o.SendErr())
			require.Positive(t, packets)
			require.Zero(t, s.sent.Counters().Failed)
		})
	}
}

// BenchmarkSource sends a frame of eight packets of 1,100 bytes: stamped,
// encrypted and sent over loopback to a socket that is not read.
func BenchmarkSource(b *testing.B) {
	c := movie(1, 30, 1)
	c.Frames[0].Payloads = nil
	for i := range 8 {
		c.Frames[0].Payloads = append(c.Frames[0].Payloads, payload(i, 1100))
	}
	o := newOutlet(b, PublisherConfig{Video: []*clip.Clip{c}})
	o.begin(noon)
	s, burst := o.tracks[0].layers[0], new(socket.Burst)
	b.ReportAllocs()
	for b.Loop() {
		s.send(burst)
	}
	if err := o.SendErr(); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*8), "ns/packet")
}
