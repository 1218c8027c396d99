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

	"github.com/openova-io/bp-relay/loadtest/internal/apiload/relay"
)

// sessionsPerUser is the number of sessions that one user opens if the run can
// create users: fewer than the 60 a minute that relay allows
// (services/connection).
const sessionsPerUser = 50

// users holds the users who open sessions, and the connection that they use.
type users struct {
	connection string
	all        []user
}

type user struct {
	target relay.Target
	conn   *grpc.ClientConn
	api    connectionv1.ConnectionServiceClient
}

// makeUsers creates the users and the connection. Creating the connection is the
// first call that checks the token.
func (l *load) makeUsers(ctx context.Context, people func(context.Context, int) (relay.Target, error)) (_ *users, err error) {
	us := &users{}
	defer func() {
		if err != nil {
			err = errors.Join(err, us.close())
		}
	}()
	n := 1
	if l.c.Target == nil {
		n = (l.c.Load.Sessions + sessionsPerUser - 1) / sessionsPerUser
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
		us.all = append(us.all, user{target: t, conn: conn, api: connectionv1.NewConnectionServiceClient(conn)})
	}
	var raw [5]byte
	if _, err := rand.Read(raw[:]); err != nil {
		return nil, fmt.Errorf("tunnelload: random name: %w", err)
	}
	first := us.all[0]
	cctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	made, err := first.api.CreateConnection(cctx, &connectionv1.CreateConnectionRequest{
		Parent: first.target.Parent(), ConnectionId: "loadtest-" + hex.EncodeToString(raw[:]),
		// Nothing connects to it: the synthetic guacd replaces the host.
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
	us.connection = made.GetConnection().GetName()
	return us, nil
}

// deleteConnection deletes the connection, even if ctx has ended.
func (us *users) deleteConnection(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	_, err := us.all[0].api.DeleteConnection(ctx, &connectionv1.DeleteConnectionRequest{Name: us.connection})
	if err != nil && status.Code(err) != codes.NotFound {
		return fmt.Errorf("tunnelload: %s was not deleted, delete it: %w", us.connection, err)
	}
	return nil
}

func (us *users) close() error {
	var errs []error
	for _, u := range us.all {
		errs = append(errs, u.conn.Close())
	}
	return errors.Join(errs...)
}

// openSession opens the i-th session. Its time counts from the call that relay
// accepted: if a user opens too many, relay says how long to wait.
func (l *load) openSession(ctx context.Context, us *users, i int) (*client, error) {
	u := us.all[i%len(us.all)]
	for {
		begun := time.Now()
		octx, cancel := context.WithTimeout(ctx, openTimeout)
		o, err := u.api.OpenSession(octx, &connectionv1.OpenSessionRequest{Connection: us.connection, Reason: "load test"})
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
		c, err := l.dial(ctx, u.target, o)
		if err == nil {
			l.recordOpen(time.Since(begun))
		}
		return c, err
	}
}

// retry returns how long relay asks to wait; false if err is not a rate
// limit.
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
