package peer

import (
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/livekit/protocol/livekit"
	"github.com/pion/datachannel"
	"google.golang.org/protobuf/proto"
)

// The labels of LiveKit's data channels.
const (
	reliableLabel = "_reliable"
	lossyLabel    = "_lossy"
)

// maxData bounds a message, with room for what LiveKit wraps it into.
const maxData = 64 << 10

// receiveData hands messages to fn until the association ends.
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

// sender writes messages to LiveKit's data channels.
type sender struct {
	reliable, lossy *datachannel.DataChannel
	mu              sync.Mutex
	seq             uint32
}

func (t *transport) openData() (*sender, error) {
	open := func(id uint16, label string, kind datachannel.ChannelType) (*datachannel.DataChannel, error) {
		dc, err := datachannel.Dial(t.sctp, id, &datachannel.Config{Label: label, ChannelType: kind, LoggerFactory: t.cfg.Engine.log})
		if err != nil {
			return nil, fmt.Errorf("data channel %s: %w", label, err)
		}
		// Its acknowledgement has to be read.
		t.wg.Go(func() { readChannel(dc, true, nil) })
		return dc, nil
	}
	// A DTLS client's streams have even numbers (RFC 8832 section 6).
	r, err := open(0, reliableLabel, datachannel.ChannelTypeReliable)
	if err != nil {
		return nil, err
	}
	l, err := open(2, lossyLabel, datachannel.ChannelTypePartialReliableRexmitUnordered)
	if err != nil {
		return nil, err
	}
	return &sender{reliable: r, lossy: l}, nil
}

func (s *sender) send(payload []byte, reliable bool) error {
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
