package rtc

import (
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/livekit/protocol/livekit"
	"github.com/pion/datachannel"
	"google.golang.org/protobuf/proto"
)

// The labels of LiveKit's data channels, and the SCTP streams of those that a
// publisher opens: a DTLS client's have even numbers (RFC 8832 section 6).
const (
	reliableLabel, reliableStream = "_reliable", 0
	lossyLabel, lossyStream       = "_lossy", 2
)

// maxData bounds a received message in bytes, with what LiveKit wraps it into.
const maxData = 64 << 10

// receiveData passes user messages to fn until the association ends.
func (t *transport) receiveData(fn func(payload []byte, reliable bool)) {
	var channels sync.WaitGroup
	defer channels.Wait()
	for {
		dc, err := datachannel.Accept(t.sctp, &datachannel.Config{LoggerFactory: t.cfg.Engine.log})
		if err != nil {
			return
		}
		reliable := dc.Config.Label == reliableLabel
		channels.Go(func() { readChannel(dc, reliable, fn) })
	}
}

// readChannel passes a channel's user messages to fn, if that is not nil; longer ones
// than maxData are dropped.
func readChannel(dc *datachannel.DataChannel, reliable bool, fn func([]byte, bool)) {
	buf := make([]byte, maxData)
	for {
		n, err := dc.Read(buf)
		if errors.Is(err, io.ErrShortBuffer) {
			continue
		}
		if err != nil {
			return
		}
		var p livekit.DataPacket
		if fn == nil || proto.Unmarshal(buf[:n], &p) != nil {
			continue
		}
		if user := p.GetUser(); user != nil {
			fn(user.GetPayload(), reliable)
		}
	}
}

// dataSender writes messages to LiveKit's data channels.
type dataSender struct {
	reliable, lossy *datachannel.DataChannel
	mu              sync.Mutex
	seq             uint32 // of reliable messages
}

// openData opens the data channels of a publisher (RFC 8832).
func (t *transport) openData() (*dataSender, error) {
	open := func(id uint16, label string, kind datachannel.ChannelType) (*datachannel.DataChannel, error) {
		dc, err := datachannel.Dial(t.sctp, id, &datachannel.Config{Label: label, ChannelType: kind, LoggerFactory: t.cfg.Engine.log})
		if err != nil {
			return nil, fmt.Errorf("data channel %s: %w", label, err)
		}
		t.wg.Go(func() { readChannel(dc, true, nil) }) // for its DATA_CHANNEL_ACK
		return dc, nil
	}
	r, err := open(reliableStream, reliableLabel, datachannel.ChannelTypeReliable)
	if err != nil {
		return nil, err
	}
	l, err := open(lossyStream, lossyLabel, datachannel.ChannelTypePartialReliableRexmitUnordered)
	if err != nil {
		return nil, err
	}
	return &dataSender{reliable: r, lossy: l}, nil
}

func (s *dataSender) send(payload []byte, reliable bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := &livekit.DataPacket{Kind: livekit.DataPacket_LOSSY, Value: &livekit.DataPacket_User{User: &livekit.UserPacket{Payload: payload}}} //nolint:staticcheck // older servers read Kind
	dc := s.lossy
	if reliable {
		s.seq++
		p.Kind, p.Sequence = livekit.DataPacket_RELIABLE, s.seq //nolint:staticcheck // as above
		dc = s.reliable
	}
	raw, err := proto.Marshal(p)
	if err != nil {
		return fmt.Errorf("data message: %w", err)
	}
	if _, err := dc.Write(raw); err != nil {
		return fmt.Errorf("data message: %w", err)
	}
	return nil
}
