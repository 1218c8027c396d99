package demo

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	connectionv1 "github.com/openova-io/bp-relay/gen/relay/connection/v1"
	evidencev1 "github.com/openova-io/bp-relay/gen/relay/evidence/v1"
	recordingv1 "github.com/openova-io/bp-relay/gen/relay/recording/v1"
	roomv1 "github.com/openova-io/bp-relay/gen/relay/room/v1"
	turnv1 "github.com/openova-io/bp-relay/gen/relay/turn/v1"
)

// caller is one of the people and programs that use the API. Each has the smallest
// role for its part.
type caller string

const (
	backend  caller = "demo-backend"  // an application: rooms and recordings
	owner    caller = "demo-owner"    // defines connections and may end sessions
	operator caller = "demo-operator" // opens shells
	auditor  caller = "demo-auditor"  // plays recordings and exports evidence
)

func (c caller) role() string {
	switch c {
	case backend:
		return "relay-backend"
	case operator:
		return "relay-operator"
	case auditor:
		return "relay-auditor"
	}
	return "relay-admin"
}

// client is the public API over gRPC.
type client struct {
	conn        *grpc.ClientConn
	tokens      map[caller]string
	rooms       roomv1.RoomServiceClient
	recordings  recordingv1.RecordingServiceClient
	connections connectionv1.ConnectionServiceClient
	turn        turnv1.TurnServiceClient
	evidence    evidencev1.EvidenceServiceClient
}

func dial(s Relay) (*client, error) {
	c := &client{tokens: map[caller]string{}}
	for _, who := range []caller{backend, owner, operator, auditor} {
		token, err := s.Token(string(who), who.role())
		if err != nil {
			return nil, fmt.Errorf("a token for %s: %w", who, err)
		}
		c.tokens[who] = token
	}
	conn, err := grpc.NewClient(s.API, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithUnaryInterceptor(func(ctx context.Context, method string, req, resp any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			return explain(method, invoke(ctx, method, req, resp, cc, opts...))
		}))
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", s.API, err)
	}
	c.conn = conn
	c.rooms, c.recordings = roomv1.NewRoomServiceClient(conn), recordingv1.NewRecordingServiceClient(conn)
	c.connections, c.turn = connectionv1.NewConnectionServiceClient(conn), turnv1.NewTurnServiceClient(conn)
	c.evidence = evidencev1.NewEvidenceServiceClient(conn)
	return c, nil
}

// as returns a context for calls by a caller.
func (c *client) as(ctx context.Context, who caller) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+c.tokens[who])
}

// explain returns an API error as people need it: method, message, code and reason.
func explain(method string, err error) error {
	st, ok := status.FromError(err)
	if err == nil || !ok {
		return err
	}
	reason := ""
	for _, d := range st.Details() {
		if info, is := d.(*errdetails.ErrorInfo); is {
			reason = ", " + info.GetReason()
		}
	}
	return &callError{text: fmt.Sprintf("%s: %s (%s%s)", method, st.Message(), st.Code(), reason), err: err}
}

type callError struct {
	text string
	err  error
}

func (e *callError) Error() string { return e.text }

func (e *callError) Unwrap() error { return e.err }

// download writes a stream of bytes to a file, and returns their number and their
// SHA-256 in hex.
func download(path, method string, recv func() ([]byte, error)) (n int64, sum string, err error) {
	f, err := os.Create(path)
	if err != nil {
		return 0, "", err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	hash := sha256.New()
	w := io.MultiWriter(f, hash)
	for {
		data, err := recv()
		if err == io.EOF { //nolint:errorlint // gRPC returns the end itself
			return n, hex.EncodeToString(hash.Sum(nil)), nil
		}
		if err != nil {
			return n, "", explain(method, err)
		}
		k, err := w.Write(data)
		n += int64(k)
		if err != nil {
			return n, "", err
		}
	}
}
