package evidencetest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/evidence"
	"github.com/openova-io/bp-relay/services/format/bag"
	"github.com/openova-io/bp-relay/services/format/leaf"
	"github.com/openova-io/bp-relay/services/format/manifest"
	"github.com/openova-io/bp-relay/services/records"
)

// Recorded is a small sealed capture whose bytes are in memory. Its segments
// have a prefix instead of encryption: a verifier does not decrypt.
type Recorded struct {
	M        manifest.Manifest
	Envelope []byte
	stored   map[string][]byte // by key
	played   map[string][]byte // by stream
}

// Record makes a capture "orgs/acme/captures/{id}". Each stream has segs
// segments of about size bytes. The leaves are those that a recorder writes.
func (r *Rig) Record(t testing.TB, id string, streams []string, segs, size int) *Recorded {
	t.Helper()
	return r.Forge(t, id, streams, segs, size, nil)
}

// Forge is Record by an installation that changes the manifest before sealing.
func (r *Rig) Forge(t testing.TB, id string, streams []string, segs, size int, change func(*manifest.Manifest)) *Recorded {
	t.Helper()
	rnd := rand.NewChaCha8([32]byte([]byte(fmt.Sprintf("%-32s", id))[:32]))
	start := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	name := "orgs/acme/captures/" + id
	rec := &Recorded{stored: map[string][]byte{}, played: map[string][]byte{}, M: manifest.Manifest{
		V: manifest.Version, Capture: name, Owner: "orgs/acme/recordings/" + id, Org: "acme", Bucket: "livekit-recordings",
		Mode: "required", Actor: "u1", Start: start, End: start.Add(time.Duration(segs) * 4 * time.Second),
		Clock: manifest.Clock{Source: "unsynchronised"}, KeyID: "age1test", Attributes: map[string]string{"room": "<b>orgs/acme/rooms/r</b>"},
	}}
	act := func(typ, subject string, detail any) {
		r.Add(t, leaf.Act{Type: typ, Org: "acme", Actor: "u1", Subject: subject, Detail: detail})
	}
	act("recording.started", rec.M.Owner, map[string]string{"room": "orgs/acme/rooms/r"})
	act("capture.opened", name, map[string]any{
		"owner": rec.M.Owner, "mode": rec.M.Mode, "bucket": rec.M.Bucket, "key_id": manifest.SHA256([]byte(rec.M.KeyID)), "start": rec.M.Start,
	})
	heads := map[string]any{}
	for i, stream := range streams {
		act("capture.stream_opened", name, map[string]string{"name": stream, "media_type": "video/webm", "ext": ".webm"})
		c := manifest.NewChain(name, stream)
		s := manifest.StreamManifest{Name: stream, MediaType: "video/webm", Ext: ".webm"}
		for seq := range segs {
			pt := make([]byte, size+seq)
			_, err := rnd.Read(pt)
			require.NoError(t, err)
			ct := append([]byte("ct:"), pt...)
			at := start.Add(time.Duration(seq) * 4 * time.Second)
			g := manifest.Segment{
				Seq: int64(seq), Start: at, End: at.Add(4 * time.Second), Offset: c.Bytes, PlainSHA256: manifest.SHA256(pt), PlainLen: int64(len(pt)),
				CipherSHA256: manifest.SHA256(ct), CipherLen: int64(len(ct)), Key: fmt.Sprintf("captures/%s/%s/%08d", id, stream, seq), Last: seq == segs-1,
			}
			if i == 0 && seq == 1 {
				g.Gaps = []manifest.Gap{{From: at, To: at.Add(time.Second), Reason: "interrupted"}}
				s.Gaps = g.Gaps
			}
			require.NoError(t, c.Add(g))
			s.Segments = append(s.Segments, g)
			rec.stored[g.Key] = ct
			rec.played[stream] = append(rec.played[stream], pt...)
			if seq == segs/2 {
				heads[stream] = map[string]any{"seq": g.Seq, "hash": c.Head}
			}
		}
		s.Bytes, s.CipherBytes, s.Count, s.Head = c.Bytes, c.CipherBytes, int(c.Next), c.Head
		rec.M.Streams = append(rec.M.Streams, s)
	}
	act("capture.head", name, map[string]any{"capture": name, "heads": heads})
	act("capture.sealing", name, map[string]any{"abandoned": rec.M.Abandoned, "end": rec.M.End})
	if change != nil {
		change(&rec.M)
	}
	env, err := manifest.Sign(rec.M, r.Keys.Ed25519(ManifestKey))
	require.NoError(t, err)
	rec.Envelope = env
	act("capture.sealed", name, map[string]any{
		"manifest_sha256": manifest.SHA256(env), "segments": rec.M.Segments(), "bytes": rec.M.Bytes(), "gaps": rec.M.Gaps(),
	})
	act("recording.stored", rec.M.Owner, nil)
	return rec
}

// Export returns the bag of a capture.
func (r *Rig) Export(t testing.TB, rec *Recorded) []byte {
	t.Helper()
	var out bytes.Buffer
	require.NoError(t, r.ExportTo(t.Context(), rec, &out))
	return out.Bytes()
}

// ExportTo writes the bag of a capture to w.
func (r *Rig) ExportTo(ctx context.Context, rec *Recorded, w io.Writer) error {
	e := evidence.Exporter{Records: r.Records, Ledger: r.Ledger, Captures: rec, Signer: r.Keys.Ed25519(BagKey)}
	_, err := e.Export(ctx, rec.M.Capture, "auditor", w)
	return err
}

// Manifest implements evidence.Captures.
func (rec *Recorded) Manifest(_ context.Context, name string) (manifest.Manifest, []byte, error) {
	if name != rec.M.Capture {
		return manifest.Manifest{}, nil, records.ErrNotFound
	}
	return rec.M, rec.Envelope, nil
}

// Lose makes the store lose a segment: it has other bytes of it from now on, or
// none if bytes is nil.
func (rec *Recorded) Lose(stream string, seq int, bytes []byte) {
	s, _ := rec.M.Stream(stream)
	key := s.Segments[seq].Key
	if rec.stored[key] = bytes; bytes == nil {
		delete(rec.stored, key)
	}
}

// Segment implements bag.Media.
func (rec *Recorded) Segment(_ context.Context, _ manifest.Manifest, g manifest.Segment) (io.ReadCloser, error) {
	body, ok := rec.stored[g.Key]
	if !ok {
		return nil, bag.ErrMissing
	}
	return io.NopCloser(bytes.NewReader(body)), nil
}

// Plain implements bag.Media.
func (rec *Recorded) Plain(_ context.Context, _ manifest.Manifest, stream string) (bag.Plain, error) {
	return plain(rec.played[stream]), nil
}

// plain implements bag.Plain.
type plain []byte

func (p plain) Segment(_ context.Context, g manifest.Segment) ([]byte, error) {
	return p[g.Offset : g.Offset+g.PlainLen], nil
}

func (plain) Close() error { return nil }

// Trim cuts the playable bytes to the length in the manifest, after Forge.
func (rec *Recorded) Trim() {
	for _, s := range rec.M.Streams {
		rec.played[s.Name] = rec.played[s.Name][:s.Bytes]
	}
}
