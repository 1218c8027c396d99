package evidence_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"golang.org/x/mod/sumdb/note"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	evidencev1 "github.com/openova-io/bp-relay/gen/relay/evidence/v1"
	"github.com/openova-io/bp-relay/services/blob/blobtest"
	"github.com/openova-io/bp-relay/services/blob/s3"
	"github.com/openova-io/bp-relay/services/bus/inproc"
	"github.com/openova-io/bp-relay/services/capture"
	"github.com/openova-io/bp-relay/services/dev/issuer"
	"github.com/openova-io/bp-relay/services/dev/stack/stacktest"
	"github.com/openova-io/bp-relay/services/evidence"
	"github.com/openova-io/bp-relay/services/format/proof"
	"github.com/openova-io/bp-relay/services/internal/apierr"
	"github.com/openova-io/bp-relay/services/internal/auth"
	"github.com/openova-io/bp-relay/services/internal/keyring"
	"github.com/openova-io/bp-relay/services/internal/rpc"
	"github.com/openova-io/bp-relay/services/records/sqlite"
	"github.com/openova-io/bp-relay/services/verify"
)

var shared stacktest.Shared

func TestMain(m *testing.M) { os.Exit(shared.Run(m)) }

// world is the service behind the real interceptors, with a real recorder
// beside it.
type world struct {
	t        testing.TB
	issuer   *issuer.Issuer
	captures *capture.Manager
	blob     *blobtest.Faulty
	service  *evidence.Service
	client   evidencev1.EvidenceServiceClient
}

func newWorld(t testing.TB) *world {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	dir := t.TempDir()
	db, err := sqlite.Open(t.Context(), sqlite.Config{Path: filepath.Join(dir, "records.db"), Logger: quiet})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	srv := shared.SeaweedFS(t)
	objects, err := s3.New(s3.Config{Endpoint: srv.Endpoint, Region: srv.Region, AccessKey: srv.AccessKey, SecretKey: srv.SecretKey, Logger: quiet})
	require.NoError(t, err)
	t.Cleanup(func() { _ = objects.Close() })
	require.NoError(t, objects.EnsureBucket(t.Context(), "recordings"))
	keys, err := keyring.Load(filepath.Join(dir, "master"))
	require.NoError(t, err)
	live := inproc.New()
	t.Cleanup(func() { require.NoError(t, live.Close()) })
	w := &world{t: t, blob: blobtest.NewFaulty(objects)}
	w.captures, err = capture.New(capture.Config{Dir: filepath.Join(dir, "spool"), Records: db, Blob: w.blob, Keys: keys, Logger: quiet})
	require.NoError(t, err)
	w.service, err = evidence.New(evidence.Config{
		Records: db, Bus: live, Blob: w.blob, Keys: keys, Captures: w.captures, Bucket: "ev-" + uuid.NewString(), Scratch: dir, Logger: quiet,
	})
	require.NoError(t, err)
	w.serve()
	for _, run := range []func(context.Context) error{w.captures.Run, w.service.Run} {
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- run(ctx) }()
		t.Cleanup(func() { cancel(); require.NoError(t, <-done) })
	}
	return w
}

func (w *world) serve() {
	t := w.t
	mux := http.NewServeMux()
	web := httptest.NewServer(mux)
	t.Cleanup(web.Close)
	var err error
	w.issuer, err = issuer.New(web.URL+"/realm", filepath.Join(t.TempDir(), "issuer.pem"))
	require.NoError(t, err)
	w.issuer.Routes(mux, "/realm")
	internal, err := auth.NewInternal(bytes.Repeat([]byte{5}, 32))
	require.NoError(t, err)
	verifier, err := auth.NewVerifier(auth.OIDCConfig{Issuer: web.URL + "/realm", Audience: "relay"}, internal)
	require.NoError(t, err)
	policy, err := auth.NewPolicy(auth.DefaultRoles(), evidencev1.EvidenceService_ServiceDesc.ServiceName)
	require.NoError(t, err)
	srv, err := rpc.NewServer(rpc.Config{Verifier: verifier, Policy: policy, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	w.service.Register(srv)
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() { done <- srv.Serve(lis) }()
	t.Cleanup(func() { srv.Stop(); require.NoError(t, <-done) })
	conn, err := grpc.NewClient(lis.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close()) })
	w.client = evidencev1.NewEvidenceServiceClient(conn)
}

func (w *world) as(org string, roles ...string) context.Context {
	w.t.Helper()
	token, err := w.issuer.Token(issuer.Claims{Subject: "auditor-1", Org: org, Roles: roles, Audience: "relay", TTL: 10 * time.Minute})
	require.NoError(w.t, err)
	return metadata.AppendToOutgoingContext(w.t.Context(), "authorization", "Bearer "+token)
}

func (w *world) acme() context.Context { return w.as("acme", "relay-admin") }

// record makes a real sealed capture with a stream of two segments and a
// short one, and returns its name and what the first stream must play.
func (w *world) record(seal bool) (string, []byte) {
	t := w.t
	name := "orgs/acme/captures/" + uuid.Must(uuid.NewV7()).String()
	c, err := w.captures.Open(t.Context(), capture.Meta{
		Name: name, Org: "acme", Owner: "orgs/acme/recordings/r1", Bucket: "recordings", Retention: "default-90d",
		Mode: capture.Required, Actor: "user-1", Attributes: map[string]string{"room": "orgs/acme/rooms/<script>r"},
	})
	require.NoError(t, err)
	video, err := c.Stream(t.Context(), capture.StreamMeta{Name: "video", MediaType: "video/webm", Ext: ".webm"})
	require.NoError(t, err)
	audio, err := c.Stream(t.Context(), capture.StreamMeta{Name: "audio", MediaType: "audio/webm", Ext: ".webm"})
	require.NoError(t, err)
	_, err = c.Stream(t.Context(), capture.StreamMeta{Name: "silent", MediaType: "audio/webm", Ext: ".webm"})
	require.NoError(t, err)
	src := rand.NewChaCha8([32]byte{1})
	var played []byte
	for range 60 {
		p := make([]byte, 100<<10)
		_, err := src.Read(p)
		require.NoError(t, err)
		require.NoError(t, video.Append(p))
		played = append(played, p...)
	}
	require.NoError(t, audio.Append([]byte("some sound")))
	audio.Gap(time.Now().Add(-time.Second), time.Now(), "packet_loss")
	if seal {
		_, err = c.Seal(t.Context())
		require.NoError(t, err)
	}
	return name, played
}

// export reads a whole bag; first is called at its first message.
func (w *world) export(ctx context.Context, name string, first func()) ([]byte, error) {
	s, err := w.client.ExportCapture(ctx, &evidencev1.ExportCaptureRequest{Capture: name})
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	for {
		m, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return out.Bytes(), nil
		}
		if err != nil {
			return out.Bytes(), err
		}
		if len(m.GetData()) > 64<<10 {
			return nil, errors.New("message is larger than announced")
		}
		if out.Len() == 0 && first != nil {
			first()
		}
		out.Write(m.GetData())
	}
}

func (w *world) entries(ctx context.Context, subject string, size int32) []*evidencev1.Entry {
	w.t.Helper()
	var all []*evidencev1.Entry
	req := &evidencev1.ListEntriesRequest{Parent: "orgs/acme", Subject: subject, PageSize: size}
	for range 100 {
		page, err := w.client.ListEntries(ctx, req)
		require.NoError(w.t, err)
		all = append(all, page.GetEntries()...)
		if req.PageToken = page.GetNextPageToken(); req.GetPageToken() == "" {
			return all
		}
	}
	require.Fail(w.t, "a listing without end")
	return nil
}

func types(es []*evidencev1.Entry) []string {
	var out []string
	for _, e := range es {
		out = append(out, e.GetType())
	}
	return out
}

func TestARealCaptureIsExportedAndVerifies(t *testing.T) {
	w := newWorld(t)
	name, played := w.record(true)
	cp, err := w.client.GetCheckpoint(w.acme(), &evidencev1.GetCheckpointRequest{Parent: "orgs/acme"})
	require.NoError(t, err)
	entered := false
	archive, err := w.export(w.acme(), name, func() {
		got := types(w.entries(w.acme(), name, 0))
		entered = got[len(got)-1] == "capture.exported"
	})
	require.NoError(t, err)
	require.True(t, entered, "the entry must be in the log before the first byte leaves")
	require.True(t, bytes.Contains(archive, played), "the playable file is not what was recorded")

	r, err := verify.Verify(t.Context(), verify.Config{Bag: "-", Stdin: bytes.NewReader(archive), Key: cp.GetVerifierKey()})
	require.NoError(t, err)
	var text bytes.Buffer
	require.NoError(t, r.WriteText(&text))
	require.True(t, r.OK, text.String())
	require.Equal(t, 3, r.Streams)
	require.Equal(t, 3, r.Segments)
	require.Equal(t, "packet_loss", r.Gaps[0].Reason)

	// The second export shows the first one and the reads.
	again, err := w.export(w.acme(), name, nil)
	require.NoError(t, err)
	require.Contains(t, string(again), `"type":"evidence.viewed"`)
	r2, err := verify.Verify(t.Context(), verify.Config{Bag: "-", Stdin: bytes.NewReader(again), Key: cp.GetVerifierKey()})
	require.NoError(t, err)
	require.True(t, r2.OK)
	require.Greater(t, r2.Custody, r.Custody)
	at := bytes.Index(again, played[1<<20:1<<20+32])
	again[at] ^= 1
	r2, err = verify.Verify(t.Context(), verify.Config{Bag: "-", Stdin: bytes.NewReader(again), Key: cp.GetVerifierKey()})
	require.NoError(t, err)
	require.Len(t, r2.Findings, 1)
	require.Equal(t, verify.StreamChanged, r2.Findings[0].Code)
	require.Contains(t, r2.Findings[0].What, "segment 0")
}

func TestCustodyLogAndProofs(t *testing.T) {
	w := newWorld(t)
	name, _ := w.record(true)
	all := w.entries(w.acme(), name, 0)
	require.Contains(t, types(all), "capture.opened")
	require.Contains(t, types(all), "capture.sealed")
	paged := w.entries(w.acme(), name, 1)
	require.Greater(t, len(paged), len(all), "the first look is on record")
	for i, e := range paged {
		require.Positive(t, e.GetIndex()+1)
		if i > 0 {
			require.Greater(t, e.GetIndex(), paged[i-1].GetIndex())
		}
	}
	cp, err := w.client.GetCheckpoint(w.acme(), &evidencev1.GetCheckpointRequest{Parent: "orgs/acme"})
	require.NoError(t, err)
	v, err := note.NewVerifier(cp.GetVerifierKey())
	require.NoError(t, err)
	_, err = proof.Open([]byte(cp.GetCheckpoint()), v)
	require.NoError(t, err)
	got, err := w.client.GetInclusionProof(w.acme(), &evidencev1.GetInclusionProofRequest{Parent: "orgs/acme", EntryId: all[0].GetId()})
	require.NoError(t, err)
	p, err := proof.ParseInclusion([]byte(got.GetProof()))
	require.NoError(t, err)
	_, err = p.Check(v, got.GetEntry().GetBody())
	require.NoError(t, err)
	looks := types(w.entries(w.acme(), name, 0))
	require.Equal(t, "evidence.viewed", looks[len(looks)-1])
}

func TestRefusals(t *testing.T) {
	w := newWorld(t)
	name, _ := w.record(false)
	refused := func(err error, code codes.Code, reason string) {
		t.Helper()
		require.Equal(t, code, status.Code(err), "%v", err)
		require.Equal(t, reason, apierr.ReasonOf(err), "%v", err)
	}
	_, err := w.export(w.acme(), name, nil)
	refused(err, codes.FailedPrecondition, "CAPTURE_NOT_SEALED")
	_, err = w.export(w.acme(), "orgs/acme/captures/none", nil)
	refused(err, codes.NotFound, "CAPTURE_NOT_FOUND")
	_, err = w.export(w.as("other", "relay-admin"), name, nil)
	refused(err, codes.PermissionDenied, "OTHER_ORGANISATION")
	_, err = w.export(w.as("acme", "nobody"), name, nil)
	refused(err, codes.PermissionDenied, "PERMISSION_MISSING")

	other := w.as("other", "relay-admin")
	_, err = w.client.ListEntries(other, &evidencev1.ListEntriesRequest{Parent: "orgs/other", Subject: name})
	refused(err, codes.PermissionDenied, "OTHER_ORGANISATION")
	_, err = w.client.ListEntries(w.acme(), &evidencev1.ListEntriesRequest{Parent: "orgs/acme", Subject: name, PageToken: "nonsense"})
	refused(err, codes.InvalidArgument, "PAGE_TOKEN_INVALID")
	id := w.entries(w.acme(), name, 0)[0].GetId()
	_, err = w.client.GetInclusionProof(other, &evidencev1.GetInclusionProofRequest{Parent: "orgs/other", EntryId: id})
	refused(err, codes.NotFound, "ENTRY_NOT_FOUND")
	_, err = w.client.GetInclusionProof(w.acme(), &evidencev1.GetInclusionProofRequest{Parent: "orgs/acme", EntryId: uuid.NewString()})
	refused(err, codes.NotFound, "ENTRY_NOT_FOUND")
}

func TestAnExportWithoutTheObjectStoreSaysSo(t *testing.T) {
	w := newWorld(t)
	name, _ := w.record(true)
	w.blob.FailAll(nil)
	_, err := w.export(w.acme(), name, nil)
	require.Equal(t, codes.Unavailable, status.Code(err), "%v", err)
	require.Equal(t, "STORE_UNAVAILABLE", apierr.ReasonOf(err))
	w.blob.Restore()
	_, err = w.export(w.acme(), name, nil)
	require.NoError(t, err)
}
