package vp8_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/pion/rtp"
	"github.com/pion/rtp/codecs"
	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/media/jitter"
	"github.com/openova-io/bp-relay/services/media/vp8"
)

// picture makes bytes that begin like a VP8 frame.
func picture(key bool, fill byte, size int) []byte {
	b := bytes.Repeat([]byte{fill}, size)
	b[0] = 1
	if key {
		copy(b, []byte{0, 0, 0, 0x9D, 0x01, 0x2A, 0x80, 0x02, 0x68, 0x01}) // 640x360
	}
	return b
}

// sender packs frames as pion and browsers do.
type sender struct {
	payloader codecs.VP8Payloader
	seq       uint16
	ts        uint32
}

func (s *sender) frame(data []byte) []*rtp.Packet {
	s.ts += 3000
	var packets []*rtp.Packet
	payloads := s.payloader.Payload(500, data)
	for i, p := range payloads {
		s.seq++
		packets = append(packets, &rtp.Packet{
			Header:  rtp.Header{SequenceNumber: s.seq, Timestamp: s.ts, Marker: i == len(payloads)-1},
			Payload: p,
		})
	}
	return packets
}

// receive pushes packets through a jitter buffer and an assembler, except those
// whose index is in lost.
func receive(packets []*rtp.Packet, lost ...int) (frames []vp8.Frame, a *vp8.Assembler) {
	a = vp8.New(func(f vp8.Frame) {
		f.Data = bytes.Clone(f.Data)
		frames = append(frames, f)
	})
	b := jitter.New(jitter.Config{}, a.Push)
	skip := map[int]bool{}
	for _, i := range lost {
		skip[i] = true
	}
	now := time.Date(2026, 11, 22, 8, 0, 0, 0, time.UTC)
	for i, p := range packets {
		if !skip[i] {
			b.Push(&p.Header, p.Payload, now)
		}
	}
	b.Flush()
	return frames, a
}

func stream(enablePictureID bool) []*rtp.Packet {
	s := &sender{seq: 65530, payloader: codecs.VP8Payloader{EnablePictureID: enablePictureID}}
	var packets []*rtp.Packet
	for i := range 12 { // three packets a frame; keyframes are 0, 5 and 10
		packets = append(packets, s.frame(picture(i%5 == 0, byte(i), 1300))...)
	}
	return packets
}

func fills(frames []vp8.Frame) []byte {
	var out []byte
	for _, f := range frames {
		out = append(out, f.Data[len(f.Data)-1])
	}
	return out
}

func TestWholeFrames(t *testing.T) {
	for _, ids := range []bool{false, true} {
		frames, a := receive(stream(ids))
		require.Len(t, fills(frames), 12)
		require.False(t, a.NeedsKey())
		for i, f := range frames {
			require.Equal(t, picture(i%5 == 0, byte(i), 1300), f.Data)
			require.Equal(t, i%5 == 0, f.Key)
			require.Zero(t, f.Dropped)
			require.Equal(t, uint32(3000*(i+1)), f.Timestamp)
		}
		require.Equal(t, 640, frames[5].Width)
		require.Equal(t, 360, frames[5].Height)
	}
}

func TestWaitsForAKeyframe(t *testing.T) {
	packets := stream(true)
	frames, _ := receive(packets[3:])
	require.Equal(t, []byte{5, 6, 7, 8, 9, 10, 11}, fills(frames))
	require.Equal(t, 12, frames[0].Dropped)
}

// TestNothingAfterALostReference: if a packet is lost, its frame and all frames up
// to the next keyframe are dropped and counted.
func TestNothingAfterALostReference(t *testing.T) {
	packets := stream(true)
	for lost := 1; lost < len(packets)-1; lost++ {
		frames, a := receive(packets, lost)
		var want []byte
		broken := false
		for i := range 12 {
			if i%5 == 0 {
				broken = false
			}
			if i == lost/3 {
				broken = true
			}
			if !broken {
				want = append(want, byte(i))
			}
		}
		require.Equal(t, want, fills(frames), "lost packet %d", lost)
		require.Equal(t, lost/3 >= 10, a.NeedsKey())
		dropped := 0
		for _, f := range frames {
			dropped += f.Dropped
		}
		if lost/3 < 10 {
			require.Equal(t, (12-len(want))*3, dropped, "lost packet %d", lost)
		}
	}
}

func TestLostPaddingIsNoLoss(t *testing.T) {
	var packets []*rtp.Packet
	for i, p := range stream(true) {
		p.SequenceNumber += uint16(i / 3) // a padding packet before each frame
		if i%3 == 0 {
			packets = append(packets, &rtp.Packet{Header: rtp.Header{SequenceNumber: p.SequenceNumber - 1, Timestamp: p.Timestamp - 3000}})
		}
		packets = append(packets, p)
	}
	frames, _ := receive(packets)
	require.Len(t, fills(frames), 12)
	frames, a := receive(packets, 8, 16, 32) // only padding
	require.Len(t, fills(frames), 12)
	require.False(t, a.NeedsKey())
	for _, f := range frames {
		require.Zero(t, f.Dropped)
	}
}

func TestMissingMarkerAndBrokenInput(t *testing.T) {
	packets := stream(true)
	packets[2].Marker = false
	frames, _ := receive(packets)
	require.Len(t, fills(frames), 12, "a new timestamp ends a frame, too")

	packets = stream(true)
	packets[4].Payload = []byte{0x80}
	frames, a := receive(packets)
	require.Equal(t, []byte{0, 5, 6, 7, 8, 9, 10, 11}, fills(frames))
	require.False(t, a.NeedsKey())
}

func TestSize(t *testing.T) {
	w, h, ok := vp8.Size(picture(true, 0, 10))
	require.True(t, ok)
	require.Equal(t, []int{640, 360}, []int{w, h})
	for _, bad := range [][]byte{nil, picture(true, 0, 10)[:9], picture(false, 0, 10), make([]byte, 10)} {
		_, _, ok := vp8.Size(bad)
		require.False(t, ok)
	}
}

func FuzzPush(f *testing.F) {
	for _, p := range stream(true)[:4] {
		f.Add(p.Payload, p.Payload, true)
	}
	f.Add([]byte{0x90, 0x80}, []byte{0x10}, false)
	f.Fuzz(func(t *testing.T, one, two []byte, marker bool) {
		a := vp8.New(func(f vp8.Frame) {
			require.NotEmpty(t, f.Data)
			if f.Key {
				require.Positive(t, f.Width)
			}
		})
		key := picture(true, 7, 20)
		a.Push(jitter.Packet{Header: &rtp.Header{Timestamp: 1, Marker: true}, Payload: append([]byte{0x10}, key...)})
		a.Push(jitter.Packet{Header: &rtp.Header{Timestamp: 2, Marker: marker}, Payload: one})
		a.Push(jitter.Packet{Header: &rtp.Header{Timestamp: 2, Marker: !marker}, Payload: two})
	})
}

// TestLostIsSaid: a frame says that others are missing before it, also if nobody
// knows how many packets, and also if the caller could not keep one.
func TestLostIsSaid(t *testing.T) {
	packets := stream(true)
	for _, p := range packets[15:] {
		p.SequenceNumber += 20000 // the sender restarts before the keyframe 5
	}
	frames, _ := receive(packets, 12, 13, 14) // and the frame before it is lost
	require.Len(t, frames, 11)
	for i, f := range frames {
		require.Equal(t, i == 0 || i == 4, f.Lost, "frame %d", i)
	}

	var got []byte
	var a *vp8.Assembler
	a = vp8.New(func(f vp8.Frame) {
		got = append(got, f.Data[len(f.Data)-1])
		if len(got) == 2 {
			a.Break()
			require.True(t, a.NeedsKey())
		}
	})
	b := jitter.New(jitter.Config{}, a.Push)
	for _, p := range stream(true) {
		b.Push(&p.Header, p.Payload, time.Time{})
	}
	require.Equal(t, []byte{0, 1, 5, 6, 7, 8, 9, 10, 11}, got)
}
