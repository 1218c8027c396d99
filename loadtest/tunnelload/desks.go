package tunnelload

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	connectionv1 "github.com/openova-io/bp-relay/gen/relay/connection/v1"

	"github.com/openova-io/bp-relay/loadtest/apiload/relay"
)

// perPerson is how many sessions one person opens where people can be made up:
// fewer than the 60 a minute that relay allows (services/connection).
const perPerson = 50

// desks are the people who open sessions, and the connection they open.
type desks struct {
	connection string
	people     []desk
}

type desk struct {
	target relay.Target
	conn   *grpc.ClientConn
	api    connectionv1.ConnectionServiceClient
}

// desks makes the people and the connection: the first call that a token has
// to be good for.
func (l *load) desks(ctx context.Context, people func(context.Context, int) (relay.Target, error)) (_ *desks, err error) {
	d := &desks{}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.close())
		}
	}()
	n := 1
	if l.c.Target == nil {
		n = (l.c.Load.Sessions + perPerson - 1) / perPerson
	}
	for i := range n {
		t, err := people(ctx, i)
		if err != nil {
			return nil, err
		}
		conn, err := t.Dial()
		if err != nil {
			return nil, err
		}
		d.people = append(d.people, desk{target: t, conn: conn, api: connectionv1.NewConnectionServiceClient(conn)})
	}
	var raw [5]byte
	if _, err := rand.Read(raw[:]); err != nil {
		return nil, fmt.Errorf("tunnelload: random name: %w", err)
	}
	first := d.people[0]
	cctx, cancel := context.WithTimeout(ctx, opens)
	defer cancel()
	made, err := first.api.CreateConnection(cctx, &connectionv1.CreateConnectionRequest{
		Parent: first.target.Parent(), ConnectionId: "loadtest-" + hex.EncodeToString(raw[:]),
		// Nobody connects there: the synthetic guacd takes the place of a host.
		Connection: &connectionv1.Connection{
			DisplayName: "load test", Recording: connectionv1.RecordingPolicy_RECORDING_POLICY_REQUIRED,
			Target: &connectionv1.Connection_Ssh{Ssh: &connectionv1.SshTarget{
				Hostname: "127.0.0.1", Username: "loadtest", InsecureSkipHostKey: true,
				Credential: &connectionv1.SshTarget_Password{Password: "none"},
			}},
		},
	})
	if err != nil {
		return nil, first.target.Refused("define a connection", err)
	}
	d.connection = made.GetConnection().GetName()
	return d, nil
}

// tidy removes the connection, though the run was interrupted.
func (d *desks) tidy(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	_, err := d.people[0].api.DeleteConnection(ctx, &connectionv1.DeleteConnectionRequest{Name: d.connection})
	if err != nil && status.Code(err) != codes.NotFound {
		return fmt.Errorf("tunnelload: delete %s yourself: %w", d.connection, err)
	}
	return nil
}

func (d *desks) close() error {
	var errs []error
	for _, p := range d.people {
		errs = append(errs, p.conn.Close())
	}
	return errors.Join(errs...)
}

// enter opens the i-th session. Its time counts from the call that was let
// through: where a person opens too many, relay says how long to wait.
func (l *load) enter(ctx context.Context, d *desks, i int) (*near, error) {
	p := d.people[i%len(d.people)]
	for {
		begun := time.Now()
		octx, cancel := context.WithTimeout(ctx, opens)
		o, err := p.api.OpenSession(octx, &connectionv1.OpenSessionRequest{Connection: d.connection, Reason: "load test"})
		cancel()
		if wait, limited := retry(err); limited {
			select {
			case <-time.After(wait):
				continue
			case <-ctx.Done():
			}
		}
		if err != nil {
			return nil, &BrokenError{Code: status.Code(err).String(), Text: relay.Message(err), Err: err}
		}
		n, err := l.dial(ctx, p.target, o)
		if err == nil {
			l.entered(time.Since(begun))
		}
		return n, err
	}
}

// retry is how long relay asks to wait.
func retry(err error) (time.Duration, bool) {
	st, ok := status.FromError(err)
	if !ok || st.Code() != codes.ResourceExhausted {
		return 0, false
	}
	for _, d := range st.Details() {
		if info, is := d.(*errdetails.RetryInfo); is {
			return max(info.GetRetryDelay().AsDuration(), 100*time.Millisecond), true
		}
	}
	return 0, false
}
