package bag

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/openova-io/bp-relay/services/capture/manifest"
	"github.com/openova-io/bp-relay/services/evidence/proof"
)

// Media gives what was recorded.
type Media interface {
	// Segment gives a segment's ciphertext exactly as stored.
	Segment(ctx context.Context, m manifest.Manifest, s manifest.Segment) (io.ReadCloser, error)
	// Playable gives the decrypted concatenation of a stream's segments.
	Playable(ctx context.Context, m manifest.Manifest, stream string) (io.ReadCloser, error)
}

// Input is what a bag is made of.
type Input struct {
	// Export is the bag's id; Time is when it was asked for.
	Export string
	Time   time.Time
	// Manifest is what Envelope, the DSSE envelope as it is stored, holds.
	Manifest manifest.Manifest
	Envelope []byte
	// Custody ends with the entry about this export. It stays the caller's.
	Custody *Custody
	// Checkpoint covers every line of Custody.
	Checkpoint proof.Checkpoint
	// VerifierKey is the log's public key, for the reader's information.
	VerifierKey string
	// Keys are those that the log vouches for.
	Keys []proof.Key
	// Prove gives the proof of the entry at an index in Checkpoint.
	Prove func(ctx context.Context, index int64) (proof.Inclusion, error)
	Media Media
	// Signer signs the bag; the log vouches for it with proof.BagPurpose.
	Signer ed25519.PrivateKey
	// Scratch is the folder for temporary files, "" means the system's.
	Scratch string
}

// Name is the bag's top folder.
func (in Input) Name() string {
	return "evidence-" + CaptureID(in.Manifest.Capture) + "-" + in.Time.UTC().Format("20060102T150405Z")
}

// Write streams the bag as a tar to w. It needs no memory for what was
// recorded but for its list of segments, which the manifest is. After an
// error what was written is not a bag.
func Write(ctx context.Context, w io.Writer, in Input) error {
	if err := CheckNames(in.Manifest); err != nil {
		return fmt.Errorf("bag: %w", err)
	}
	if in.Custody.Len() == 0 {
		return errors.New("bag: the custody log is empty")
	}
	a, err := newArchive(w, in.Name(), in.Time.Unix(), in.Scratch)
	if err != nil {
		return err
	}
	defer func() { _ = a.Close() }() // temporary files
	report, err := in.report()
	if err != nil {
		return err
	}
	defer func() { _ = report.Close() }()
	for _, part := range []func(context.Context, *archive, *Spool) error{
		in.declare, in.vouch, in.prove, in.segments, in.playables, in.explain, in.seal,
	} {
		if err := part(ctx, a, report); err != nil {
			return err
		}
	}
	if err := a.tw.Close(); err != nil {
		return fmt.Errorf("end the bag: %w", err)
	}
	return nil
}

// declare writes the bag's own files.
func (in Input) declare(ctx context.Context, a *archive, report *Spool) error {
	if err := a.text(ctx, Declaration, []byte(DeclarationText)); err != nil {
		return err
	}
	return a.text(ctx, Info, in.info(report.Size()))
}

// info is bag-info.txt (RFC 8493, section 2.2.2). Values are free of line
// breaks: they are ids, times and numbers.
func (in Input) info(report int64) []byte {
	m := in.Manifest
	octets := in.Custody.spool.Size() + int64(len(in.Envelope)) + report
	count := 3
	for _, s := range m.Streams {
		octets += s.CipherBytes + s.Bytes
		count += s.Count + 1
	}
	return fmt.Appendf(nil, "Bag-Software-Agent: bp-relay\n"+
		"Bagging-Date: %s\n"+
		"External-Identifier: %s\n"+
		"External-Description: evidence of %s\n"+
		"Bag-Group-Identifier: %s\n"+
		"BagIt-Profile-Identifier: %s\n"+
		"Payload-Oxum: %d.%d\n",
		in.Time.UTC().Format(time.DateOnly), in.Export, EncodePath(m.Capture), EncodePath(m.Owner), Profile, octets, count)
}

// vouch writes checkpoint, keys and custody log.
func (in Input) vouch(ctx context.Context, a *archive, _ *Spool) error {
	if err := a.text(ctx, CheckpointTxt, in.Checkpoint.Note); err != nil {
		return err
	}
	if err := a.text(ctx, LogKey, []byte(in.VerifierKey+"\n")); err != nil {
		return err
	}
	for _, k := range in.Keys {
		text, err := k.PEM()
		if err != nil {
			return err
		}
		if err := a.text(ctx, KeyPath(k.Purpose, k.Public), text); err != nil {
			return err
		}
	}
	_, err := a.spool(ctx, CustodyLog, in.Custody.spool)
	return err
}

// prove writes one proof for each line of the custody log, and the manifest.
func (in Input) prove(ctx context.Context, a *archive, _ *Spool) error {
	for _, e := range in.Custody.entries {
		p, err := in.Prove(ctx, e.index)
		if err != nil {
			return fmt.Errorf("bag: prove entry %d: %w", e.index, err)
		}
		if err := a.text(ctx, ProofPath(e.id), p.Marshal()); err != nil {
			return err
		}
	}
	return a.text(ctx, ManifestPath(CaptureID(in.Manifest.Capture)), in.Envelope)
}

// segments writes the ciphertexts. One that is not what the manifest says
// ends the export: a bag that cannot verify must not look finished.
func (in Input) segments(ctx context.Context, a *archive, _ *Spool) error {
	m := in.Manifest
	for _, s := range m.Streams {
		for _, g := range s.Segments {
			r, err := in.Media.Segment(ctx, m, g)
			if err != nil {
				return fmt.Errorf("bag: stream %s segment %d: %w", s.Name, g.Seq, err)
			}
			sum, err := a.add(ctx, SegmentPath(CaptureID(m.Capture), s.Name, g), g.CipherLen, r)
			if cerr := r.Close(); err == nil && cerr != nil {
				err = cerr
			}
			if err == nil && sum != g.CipherSHA256 {
				err = fmt.Errorf("stored as %s, sealed as %s", sum, g.CipherSHA256)
			}
			if err != nil {
				return fmt.Errorf("bag: stream %s segment %d: %w", s.Name, g.Seq, err)
			}
		}
	}
	return nil
}

func (in Input) playables(ctx context.Context, a *archive, _ *Spool) error {
	m := in.Manifest
	for _, s := range m.Streams {
		r, err := in.Media.Playable(ctx, m, s.Name)
		if err != nil {
			return fmt.Errorf("bag: stream %s: %w", s.Name, err)
		}
		_, err = a.add(ctx, PlayablePath(CaptureID(m.Capture), s.Name, s.Ext), s.Bytes, r)
		if cerr := r.Close(); err == nil && cerr != nil {
			err = cerr
		}
		if err != nil {
			return fmt.Errorf("bag: stream %s: %w", s.Name, err)
		}
	}
	return nil
}

func (in Input) explain(ctx context.Context, a *archive, report *Spool) error {
	if _, err := a.spool(ctx, Report, report); err != nil {
		return err
	}
	crate, err := in.crate()
	if err != nil {
		return err
	}
	return a.text(ctx, Crate, crate)
}

// seal writes the lists of hashes and the signature over them.
func (in Input) seal(ctx context.Context, a *archive, _ *Spool) error {
	if _, err := a.spool(ctx, PayloadSums, a.payload); err != nil {
		return err
	}
	sum, err := a.spool(ctx, TagSums, a.tags)
	if err != nil {
		return err
	}
	entry, _ := in.Custody.Last()
	env, err := Statement{
		TagSums: sum, Bag: in.Name(), Export: in.Export, Entry: entry, Capture: in.Manifest.Capture,
		Log: in.Checkpoint.Origin, Size: in.Checkpoint.Size, ModTime: in.Time.Unix(),
	}.Sign(in.Signer)
	if err != nil {
		return err
	}
	return a.text(ctx, Signature, env)
}
