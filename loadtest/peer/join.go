package peer

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/livekit/protocol/livekit"

	"github.com/openova-io/bp-relay/services/media/signal"
)

// ErrLeft: when LiveKit ended a participant, with its reason in the text.
var ErrLeft = errors.New("peer: LiveKit ended the participant")

// ErrBroken: when a participant's media transport failed after it had worked.
var ErrBroken = errors.New("peer: the media transport failed")

// member is what publishers and subscribers have in common: signalling.
type member struct {
	cfg  Config
	conn *signal.Conn
	join *livekit.JoinResponse

	ctx    context.Context //nolint:containedctx // the participant's life, which goroutines of it follow
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup
	once   sync.Once
	left   chan struct{} // closed when it ended
}

func enter(ctx context.Context, cfg Config, subscribe bool) (*member, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	conn, join, err := signal.Dial(ctx, cfg.URL, cfg.Token, subscribe)
	if err != nil {
		return nil, err
	}
	m := &member{cfg: cfg, conn: conn, join: join, left: make(chan struct{})}
	m.ctx, m.cancel = context.WithCancelCause(context.Background())
	m.wg.Go(m.ping)
	return m, nil
}

// ping tells LiveKit that we live.
func (m *member) ping() {
	every := time.Duration(m.join.GetPingInterval()) * time.Second
	if every <= 0 {
		every = 10 * time.Second
	}
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-m.ctx.Done():
			return
		case now := <-ticker.C:
			req := &livekit.SignalRequest{Message: &livekit.SignalRequest_PingReq{PingReq: &livekit.Ping{Timestamp: now.UnixMilli()}}}
			if err := m.conn.Send(req); err != nil {
				m.end(fmt.Errorf("signalling: %w", err))
				return
			}
		}
	}
}

// listen hands LiveKit's messages to handle until the participant ends.
func (m *member) listen(handle func(*livekit.SignalResponse) error) {
	for {
		msg, err := m.conn.Read(m.ctx)
		if err != nil {
			m.end(fmt.Errorf("signalling: %w", err))
			return
		}
		if leave := msg.GetLeave(); leave != nil {
			m.end(fmt.Errorf("%w: %s", ErrLeft, leave.GetReason()))
			return
		}
		if err := handle(msg); err != nil {
			m.end(err)
			return
		}
	}
}

// end ends the participant's goroutines; the first reason counts.
func (m *member) end(why error) {
	m.once.Do(func() {
		m.cancel(why)
		close(m.left)
	})
}

// Done is closed when the participant has ended, by Close or by itself.
func (m *member) Done() <-chan struct{} { return m.left }

// Err is why it ended; nil while it lives.
func (m *member) Err() error { return context.Cause(m.ctx) }

// errClosed is the reason of a Close.
var errClosed = errors.New("peer: closed")

// leave says goodbye.
func (m *member) leave() {
	if m.Err() == nil {
		_ = m.conn.Send(&livekit.SignalRequest{Message: &livekit.SignalRequest_Leave{
			Leave: &livekit.LeaveRequest{Reason: livekit.DisconnectReason_CLIENT_INITIATED, Action: livekit.LeaveRequest_DISCONNECT},
		}}) // LiveKit notices without, too
	}
	m.end(errClosed)
	_ = m.conn.Close() // it may be closed already
}

// watch ends the participant when its transport fails.
func (m *member) watch(t *transport) {
	select {
	case <-t.failed:
		m.end(ErrBroken)
	case <-m.ctx.Done():
	}
}
