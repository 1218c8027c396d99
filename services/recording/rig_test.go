package recording_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/livekit/protocol/logger"
	lksdk "github.com/livekit/server-sdk-go/v2"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	recordingv1 "github.com/openova-io/bp-relay/gen/relay/recording/v1"
	roomv1 "github.com/openova-io/bp-relay/gen/relay/room/v1"

	"github.com/openova-io/bp-relay/services/blob/s3"
	"github.com/openova-io/bp-relay/services/bus"
	"github.com/openova-io/bp-relay/services/bus/inproc"
	"github.com/openova-io/bp-relay/services/bus/redis"
	"github.com/openova-io/bp-relay/services/capture"
	"github.com/openova-io/bp-relay/services/dev/issuer"
	"github.com/openova-io/bp-relay/services/dev/stack"
	"github.com/openova-io/bp-relay/services/dev/stack/stacktest"
	"github.com/openova-io/bp-relay/services/dev/testmedia"
	"github.com/openova-io/bp-relay/services/internal/apierr"
	"github.com/openova-io/bp-relay/services/internal/auth"
	"github.com/openova-io/bp-relay/services/internal/keyring"
	"github.com/openova-io/bp-relay/services/internal/rpc"
	"github.com/openova-io/bp-relay/services/livekit"
	"github.com/openova-io/bp-relay/services/recording"
	"github.com/openova-io/bp-relay/services/records"
	"github.com/openova-io/bp-relay/services/records/postgres"
	"github.com/openova-io/bp-relay/services/records/sqlite"
	"github.com/openova-io/bp-relay/services/room"
)

// childEnv holds a setup as JSON: the test binary then runs as a process of the
// service, for tests that kill it.
const childEnv = "RELAY_RECORDING_CHILD"

func TestMain(m *testing.M) {
	lksdk.SetLogger(logger.GetDiscardLogger())
	if raw := os.Getenv(childEnv); raw != "" {
		var s setup
		err := json.Unmarshal([]byte(raw), &s)
		if err == nil {
			err = s.run(context.Background())
		}
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// setup configures a process of the service.
type setup struct {
	Dir, Listen, Issuer                      string
	LiveKit, Signal, Key, Secret             string
	S3, Region, AccessKey, SecretKey, Bucket string
	Postgres, Redis                          string // SQLite and in-process if empty
	MaxSpool, Share                          int64
	JoinTimeout, Patience                    time.Duration

	// wrap changes the records; only for a process in this one.
	wrap func(records.DB) records.DB
}

// records opens the records and the live state.
func (s setup) records(ctx context.Context, log *slog.Logger) (records.DB, bus.Bus, error) {
	if s.Postgres == "" {
		db, err := sqlite.Open(ctx, sqlite.Config{Path: filepath.Join(s.Dir, "records.db"), Logger: log})
		return db, inproc.New(), err
	}
	db, err := postgres.Open(ctx, postgres.Config{URL: s.Postgres, Patience: time.Minute, Logger: log})
	if err != nil {
		return nil, nil, err
	}
	live, err := redis.New(redis.Config{URL: s.Redis, Logger: log})
	return db, live, err
}

// run serves room and recording behind the real interceptors until ctx ends.
func (s setup) run(ctx context.Context) error {
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	db, live, err := s.records(ctx, log)
	if err != nil {
		return err
	}
	defer db.Close()
	defer live.Close()
	if s.wrap != nil {
		db = s.wrap(db)
	}
	keys, err := keyring.New(bytes.Repeat([]byte{7}, 32))
	if err != nil {
		return err
	}
	objects, err := s3.New(s3.Config{Endpoint: s.S3, Region: s.Region, AccessKey: s.AccessKey, SecretKey: s.SecretKey, Logger: log})
	if err != nil {
		return err
	}
	defer objects.Close()
	captures, err := capture.New(capture.Config{Dir: filepath.Join(s.Dir, "spool"), Records: db, Blob: objects, Keys: keys, MaxSpool: s.MaxSpool, Quota: capture.Quota{Share: s.Share}, Logger: log})
	if err != nil {
		return err
	}
	internal, err := auth.NewInternal(bytes.Repeat([]byte{5}, 32))
	if err != nil {
		return err
	}
	verifier, err := auth.NewVerifier(auth.OIDCConfig{Issuer: s.Issuer, Audience: "relay"}, internal)
	if err != nil {
		return err
	}
	policy, err := auth.NewPolicy(auth.DefaultRoles(), roomv1.RoomService_ServiceDesc.ServiceName, recordingv1.RecordingService_ServiceDesc.ServiceName)
	if err != nil {
		return err
	}
	srv, err := rpc.NewServer(rpc.Config{Verifier: verifier, Policy: policy, Logger: log})
	if err != nil {
		return err
	}
	lis, err := net.Listen("tcp", s.Listen)
	if err != nil {
		return err
	}
	conn, err := grpc.NewClient(s.Listen, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithPerRPCCredentials(internal.Credentials("recording")))
	if err != nil {
		return err
	}
	defer conn.Close()
	lk, err := livekit.New(livekit.Config{URL: s.LiveKit, PublicURL: s.Signal, Key: s.Key, Secret: s.Secret})
	if err != nil {
		return err
	}
	rooms, err := room.New(room.Config{Records: db, LiveKit: lk, Logger: log})
	if err != nil {
		return err
	}
	recordings, err := recording.New(recording.Config{
		Records: db, Bus: live, Captures: captures, Rooms: roomv1.NewRoomServiceClient(conn), Bucket: s.Bucket,
		LiveKit: lk, JoinTimeout: s.JoinTimeout, Patience: s.Patience, Logger: log,
	})
	if err != nil {
		return err
	}
	rooms.Register(srv)
	recordings.Register(srv)

	// The spool stops last: recorders write into it until they have left.
	spool, stopSpool := context.WithCancel(context.Background())
	defer stopSpool()
	var under errgroup.Group
	under.Go(func() error { return captures.Run(spool) })
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return srv.Serve(lis) })
	g.Go(func() error { return recordings.Run(ctx) })
	g.Go(func() error { <-ctx.Done(); srv.Stop(); return nil })
	err = g.Wait()
	stopSpool()
	return errors.Join(err, under.Wait())
}

// world is the service with the servers around it, and a caller.
type world struct {
	t      *testing.T
	lk     *stack.LiveKit
	setup  setup
	issuer *issuer.Issuer

	rooms      roomv1.RoomServiceClient
	recordings recordingv1.RecordingServiceClient
}

func newWorld(t *testing.T, lk *stack.LiveKit, objects *stack.S3, change func(*setup)) *world {
	t.Helper()
	mux := http.NewServeMux()
	web := httptest.NewServer(mux)
	t.Cleanup(web.Close)
	w := &world{t: t, lk: lk, setup: setup{
		Dir: t.TempDir(), Listen: fmt.Sprintf("127.0.0.1:%d", stacktest.Port(t)), Issuer: web.URL + "/realm",
		LiveKit: lk.URL, Signal: lk.SignalURL, Key: lk.Key, Secret: lk.Secret,
		S3: objects.Endpoint, Region: objects.Region, AccessKey: objects.AccessKey, SecretKey: objects.SecretKey, Bucket: "recordings",
	}}
	if change != nil {
		change(&w.setup)
	}
	var err error
	w.issuer, err = issuer.New(w.setup.Issuer, filepath.Join(t.TempDir(), "issuer.pem"))
	require.NoError(t, err)
	w.issuer.Routes(mux, "/realm")
	w.dial()
	return w
}

func (w *world) dial() {
	conn, err := grpc.NewClient(w.setup.Listen, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(w.t, err)
	w.t.Cleanup(func() { require.NoError(w.t, conn.Close()) })
	w.rooms, w.recordings = roomv1.NewRoomServiceClient(conn), recordingv1.NewRecordingServiceClient(conn)
}

// replica is the same world with another process, which has its own spool, as if
// on another host.
func (w *world) replica() *world {
	other := *w
	other.setup.Dir, other.setup.Listen = w.t.TempDir(), fmt.Sprintf("127.0.0.1:%d", stacktest.Port(w.t))
	other.dial()
	return &other
}

// as returns a context for calls of somebody with these roles.
func (w *world) as(org string, roles ...string) context.Context {
	w.t.Helper()
	token, err := w.issuer.Token(issuer.Claims{Subject: "caller-1", Org: org, Roles: roles, Audience: "relay", TTL: 10 * time.Minute})
	require.NoError(w.t, err)
	return metadata.AppendToOutgoingContext(w.t.Context(), "authorization", "Bearer "+token)
}

// acme is the caller of most tests.
func (w *world) acme() context.Context { return w.as("acme", "relay-admin") }

// serve runs the service in this process and returns how to stop it.
func (w *world) serve() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.setup.run(ctx) }()
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			cancel()
			require.NoError(w.t, <-done)
		}
	}
	w.t.Cleanup(stop)
	w.up()
	return stop
}

// spawn runs the service in a process of its own and returns how to kill it.
func (w *world) spawn() (kill func()) {
	raw, err := json.Marshal(w.setup)
	require.NoError(w.t, err)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+string(raw))
	cmd.Stderr = os.Stderr
	require.NoError(w.t, cmd.Start())
	killed := false
	kill = func() {
		if !killed {
			killed = true
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	}
	w.t.Cleanup(kill)
	return kill
}

func (w *world) up() {
	require.Eventually(w.t, func() bool {
		_, err := w.rooms.ListRooms(w.acme(), &roomv1.ListRoomsRequest{Parent: "orgs/acme"})
		return err == nil
	}, 20*time.Second, 20*time.Millisecond, "the service comes up")
}

func (w *world) room() string {
	w.t.Helper()
	r, err := w.rooms.CreateRoom(w.acme(), &roomv1.CreateRoomRequest{Parent: "orgs/acme", Room: &roomv1.Room{}})
	require.NoError(w.t, err)
	return r.GetRoom().GetName()
}

func (w *world) publish(room, identity string, clip *testmedia.Clip) *testmedia.Publisher {
	w.t.Helper()
	return w.publishNamed(room, identity, "", clip)
}

func (w *world) publishNamed(room, identity, name string, clip *testmedia.Clip) *testmedia.Publisher {
	w.t.Helper()
	join, err := w.rooms.JoinRoom(w.acme(), &roomv1.JoinRoomRequest{Name: room, Identity: identity, Grants: &roomv1.Grants{Publish: true, Subscribe: true}})
	require.NoError(w.t, err)
	p, err := testmedia.Publish(w.t.Context(), testmedia.PublishConfig{URL: join.GetUrl(), Token: join.GetToken(), Clip: clip, Name: name})
	require.NoError(w.t, err)
	w.t.Cleanup(func() { _ = p.Close() })
	return p
}

// lost are the recording's gaps but for those before tracks' first frames.
func lost(r *recordingv1.Recording) []*recordingv1.Gap {
	return slices.DeleteFunc(slices.Clone(r.GetGaps()), func(g *recordingv1.Gap) bool { return g.GetReason() == "starting" })
}

func (w *world) get(name string) *recordingv1.Recording {
	w.t.Helper()
	r, err := w.recordings.GetRecording(w.acme(), &recordingv1.GetRecordingRequest{Name: name})
	require.NoError(w.t, err)
	return r.GetRecording()
}

// becomes waits for a state.
func (w *world) becomes(name string, st recordingv1.Recording_State) *recordingv1.Recording {
	w.t.Helper()
	var r *recordingv1.Recording
	require.Eventually(w.t, func() bool {
		r = w.get(name)
		return r.GetState() == st
	}, 30*time.Second, 50*time.Millisecond, "%s becomes %s", name, st)
	return r
}

// read downloads a track.
func (w *world) read(name, stream string) []byte {
	w.t.Helper()
	s, err := w.recordings.ReadTrack(w.acme(), &recordingv1.ReadTrackRequest{Name: name, Stream: stream})
	require.NoError(w.t, err)
	var data []byte
	for {
		m, err := s.Recv()
		if err != nil {
			require.EqualError(w.t, err, "EOF")
			return data
		}
		data = append(data, m.GetData()...)
	}
}

// leaves returns the types of the leaves about a subject, in their order.
func (w *world) leaves(subject string) []string {
	w.t.Helper()
	db, err := sqlite.Open(w.t.Context(), sqlite.Config{Path: filepath.Join(w.setup.Dir, "records.db"), Logger: slog.New(slog.DiscardHandler)})
	require.NoError(w.t, err)
	defer db.Close()
	list, err := db.Log().LeavesOf(w.t.Context(), "acme", subject, -1, 100)
	require.NoError(w.t, err)
	var types []string
	for _, l := range list {
		var body struct{ Type string }
		require.NoError(w.t, json.Unmarshal(l.Body, &body))
		types = append(types, body.Type)
	}
	return types
}

func fails(t *testing.T, err error, code codes.Code, reason string) {
	t.Helper()
	require.Equal(t, code, status.Code(err), "%v", err)
	require.Equal(t, reason, apierr.ReasonOf(err), "%v", err)
}

// decode has ffmpeg decode a file without warnings, and returns the times of its
// frames.
func decode(t *testing.T, name string, data []byte) []time.Duration {
	t.Helper()
	path := filepath.Join(t.TempDir(), name+".webm")
	require.NoError(t, os.WriteFile(path, data, 0o600))
	out, err := exec.Command("ffmpeg", "-v", "error", "-i", path, "-enc_time_base:v", "1/1000", "-f", "null", "-").CombinedOutput()
	require.NoError(t, err, string(out))
	require.Empty(t, string(out), name)
	out, err = exec.Command("ffprobe", "-v", "error", "-show_entries", "packet=pts_time", "-of", "csv=p=0", path).CombinedOutput()
	require.NoError(t, err, string(out))
	var times []time.Duration
	for field := range bytes.FieldsSeq(bytes.ReplaceAll(out, []byte(","), []byte(" "))) {
		d, err := time.ParseDuration(string(field) + "s")
		require.NoError(t, err)
		times = append(times, d)
	}
	return times
}

func pause(times []time.Duration) (longest time.Duration) {
	for i := 1; i < len(times); i++ {
		longest = max(longest, times[i]-times[i-1])
	}
	return longest
}

func clip(t *testing.T) *testmedia.Clip {
	t.Helper()
	cache, err := os.UserCacheDir()
	require.NoError(t, err)
	c, err := testmedia.Make(t.Context(), filepath.Join(cache, "bp-relay", "media"), testmedia.Spec{Width: 320, Height: 180, Bitrate: 250, Length: 4 * time.Second})
	require.NoError(t, err)
	return c
}
