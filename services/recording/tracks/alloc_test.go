package tracks

import (
	"context"
	"encoding/binary"
	"log/slog"
	"testing"
	"time"

	"github.com/pion/rtp"
	"github.com/pion/rtp/codecs"
	"github.com/stretchr/testify/require"
)

// discard is a sink that keeps nothing.
type discard struct{}

func (discard) Append([]byte) error                       { return nil }
func (discard) Mark(string, time.Time, map[string]string) {}
func (discard) Gap(time.Time, time.Time, string)          {}
func (discard) Size() int64                               { return 0 }
func (discard) Close() error                              { return nil }

// TestNoAllocationsPerPacket: what is paid for each packet is no memory.
func TestNoAllocationsPerPacket(t *testing.T) {
	for _, codec := range []string{"opus", "vp8"} {
		f := newFile(Stream{codec: codec}, zero, zero, false, slog.New(slog.DiscardHandler))
		f.attach(discard{})
		tr := newTrack(context.Background(), nil, f, &participantClock{}, 0, slog.New(slog.DiscardHandler), func() {})
		var (
			h       rtp.Header
			packer  = codecs.VP8Payloader{EnablePictureID: true}
			raws    [][]byte
			now     = zero
			payload = make([]byte, 900)
		)
		rate := map[string]int{"opus": 960, "vp8": 1800}[codec]
		for n := range 3000 {
			body := payload
			if codec == "vp8" {
				payload[0] = 1
				if n == 0 {
					copy(payload, []byte{0, 0, 0, 0x9D, 0x01, 0x2A, 0x80, 0x02, 0x68, 0x01})
				}
				body = packer.Payload(1000, payload)[0]
			}
			raw, err := (&rtp.Packet{Header: rtp.Header{Version: 2, SequenceNumber: uint16(n), Timestamp: uint32(n * rate), Marker: true}, Payload: body}).Marshal()
			require.NoError(t, err)
			raws = append(raws, raw)
		}
		next := func() {
			now = now.Add(20 * time.Millisecond)
			tr.packet(&h, raws[0], now)
			raws = raws[1:]
		}
		for range 100 {
			next()
		}
		require.Zero(t, testing.AllocsPerRun(2000, next), codec)
		require.Positive(t, f.writer.Last(), codec)
	}
}

// BenchmarkPacket is what one packet of sound costs after it was read.
func BenchmarkPacket(b *testing.B) {
	f := newFile(Stream{codec: "opus"}, zero, zero, false, slog.New(slog.DiscardHandler))
	f.attach(discard{})
	tr := newTrack(context.Background(), nil, f, &participantClock{}, 0, slog.New(slog.DiscardHandler), func() {})
	raw, err := (&rtp.Packet{Header: rtp.Header{Version: 2, Marker: true}, Payload: make([]byte, 120)}).Marshal()
	require.NoError(b, err)
	var h rtp.Header
	now, n := zero, 0
	b.ReportAllocs()
	for b.Loop() {
		n++
		now = now.Add(20 * time.Millisecond)
		binary.BigEndian.PutUint16(raw[2:], uint16(n))
		binary.BigEndian.PutUint32(raw[4:], uint32(n*960))
		tr.packet(&h, raw, now)
	}
}
