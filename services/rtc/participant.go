package rtc

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/livekit/protocol/livekit"

	"github.com/openova-io/bp-relay/services/livekit/signal"
)

var (
	// ErrRemoved means that LiveKit removed the participant; the text has the reason.
	ErrRemoved = errors.New("rtc: LiveKit removed the participant")
	// ErrTransport means that a participant's transport failed after it had worked.
	ErrTransport = errors.New("rtc: the media transport failed")
	// errClosed is the cause of a Close.
	errClosed = errors.New("rtc: closed")
)

// participant is what publishers and subscribers have in common: signalling.
type participant struct {
	cfg  Config
	conn *signal.Conn
	join *livekit.JoinResponse

	ctx    context.Context //nolint:containedctx // the participant's life, which its goroutines follow
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup
	once   sync.Once
	done   chan struct{} // closed when it has left
}

// join connects to LiveKit's signalling. Subscribe asks for all tracks of the room.
func join(ctx context.Context, cfg Config, subscribe bool) (*participant, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	conn, answer, err := signal.Dial(ctx, cfg.URL, cfg.Token, subscribe)
	if err != nil {
		return nil, err
	}
	p := &participant{cfg: cfg, conn: conn, join: answer, done: make(chan struct{})}
	p.ctx, p.cancel = context.WithCancelCause(context.Background())
	p.wg.Go(p.ping)
	return p, nil
}

// defaultPing is the time between pings if LiveKit names none.
const defaultPing = 10 * time.Second

// ping keeps the signalling connection alive.
func (p *participant) ping() {
	every := time.Duration(p.join.GetPingInterval()) * time.Second
	if every <= 0 {
		every = defaultPing
	}
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-p.ctx.Done():
			return
		case now := <-ticker.C:
			req := &livekit.SignalRequest{Message: &livekit.SignalRequest_PingReq{PingReq: &livekit.Ping{Timestamp: now.UnixMilli()}}}
			if err := p.conn.Send(req); err != nil {
				p.stop(fmt.Errorf("signalling: %w", err))
				return
			}
		}
	}
}

// listen passes LiveKit's messages to handle until the participant leaves.
func (p *participant) listen(handle func(*livekit.SignalResponse) error) {
	for {
		msg, err := p.conn.Read(p.ctx)
		if err != nil {
			p.stop(fmt.Errorf("signalling: %w", err))
			return
		}
		if leave := msg.GetLeave(); leave != nil {
			p.stop(fmt.Errorf("%w: %s", ErrRemoved, leave.GetReason()))
			return
		}
		if err := handle(msg); err != nil {
			p.stop(err)
			return
		}
	}
}

// stop makes the participant's goroutines return; the first cause counts.
func (p *participant) stop(cause error) {
	p.once.Do(func() {
		p.cancel(cause)
		close(p.done)
	})
}

// Done is closed when the participant has left, by Close or for another reason, which
// Err returns.
func (p *participant) Done() <-chan struct{} { return p.done }

// Err returns why the participant left: [ErrRemoved], [ErrTransport], a signalling
// error, or the one of Close. It is nil until then.
func (p *participant) Err() error { return context.Cause(p.ctx) }

// Identity returns the participant's identity in the room.
func (p *participant) Identity() string { return p.join.GetParticipant().GetIdentity() }

// leave tells LiveKit, closes signalling and makes the goroutines return.
func (p *participant) leave() {
	if p.Err() == nil {
		_ = p.conn.Send(&livekit.SignalRequest{Message: &livekit.SignalRequest_Leave{
			Leave: &livekit.LeaveRequest{Reason: livekit.DisconnectReason_CLIENT_INITIATED, Action: livekit.LeaveRequest_DISCONNECT},
		}}) // LiveKit notices without it, too
	}
	p.stop(errClosed)
	_ = p.conn.Close() // it may be closed already
}

// abandon undoes join if there is no transport to close.
func (p *participant) abandon(cause error) error {
	p.stop(cause)
	err := errors.Join(cause, p.conn.Close())
	p.wg.Wait()
	return err
}

// watch makes the participant leave when its transport fails.
func (p *participant) watch(t *transport) {
	select {
	case <-t.failed:
		p.stop(ErrTransport)
	case <-p.ctx.Done():
	}
}
