package bag

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/openova-io/bp-relay/services/format/manifest"
	"github.com/openova-io/bp-relay/services/format/proof"
)

// Media reads what was recorded. Its errors are manifest.ErrDamaged if a stored
// object is missing or is not the sealed one; others count as transient.
type Media interface {
	// Segment returns a segment's ciphertext exactly as stored.
	Segment(ctx context.Context, m manifest.Manifest, s manifest.Segment) (io.ReadCloser, error)
	// Plain opens the plaintext of a stream.
	Plain(ctx context.Context, m manifest.Manifest, stream string) (Plain, error)
}

// Plain reads decrypted segments.
type Plain interface {
	// Segment returns a segment's plaintext, which is valid until the next call.
	Segment(ctx context.Context, g manifest.Segment) ([]byte, error)
	Close() error
}

// Input is what a bag is made of.
type Input struct {
	// Export is the bag's id; Time is when it was requested.
	Export string
	Time   time.Time
	// Envelope is the manifest's DSSE envelope as stored; Manifest is its
	// content.
	Manifest manifest.Manifest
	Envelope []byte
	// Custody ends with the entry about this export. The caller closes it.
	Custody *Custody
	// Checkpoint covers every line of Custody.
	Checkpoint proof.Checkpoint
	// VerifierKey is the log's public key, for information.
	VerifierKey string
	// Keys are the signing keys that the log vouches for.
	Keys []proof.Key
	// Prove returns the proof that the entry at an index is in Checkpoint.
	Prove func(ctx context.Context, index int64) (proof.Inclusion, error)
	Media Media
	// Fatal, if not nil, reports whether an error of Media concerns more than one
	// segment, so that the bag must not be completed without it.
	Fatal func(error) bool
	// Target is where the session went, for the page; nil if not known.
	Target *Target
	// Signer signs the bag. The log vouches for it with proof.BagPurpose.
	Signer ed25519.PrivateKey
	// Scratch is the folder for temporary files; "" is the system's.
	Scratch string
}

// Name is the bag's top folder.
func (in Input) Name() string {
	return "evidence-" + CaptureID(in.Manifest.Capture) + "-" + in.Time.UTC().Format("20060102T150405Z")
}

// Write streams the bag as a tar to w. A segment that is damaged in the store
// does not stand in the way of the others: the bag states it in the file
// Damaged, and Write returns these statements. Its memory
// grows only with the number of segments (the manifest). After an error, w has
// an incomplete bag, which does not verify.
func Write(ctx context.Context, w io.Writer, in Input) (damaged []Damage, err error) {
	if err := CheckNames(in.Manifest); err != nil {
		return nil, fmt.Errorf("bag: %w", err)
	}
	if in.Custody.Len() == 0 {
		return nil, errors.New("bag: the custody log is empty")
	}
	a, err := newArchive(w, in.Name(), in.Time.Unix(), in.Scratch)
	if err != nil {
		return nil, err
	}
	defer func() { _ = a.Close() }() // temporary files
	d := newDamages(in)
	for _, part := range []func(context.Context, *archive, *damages) error{
		in.declare, in.vouch, in.prove, in.segments, in.playables, in.lacks, in.explain, in.sign,
	} {
		if err := part(ctx, a, d); err != nil {
			return nil, err
		}
	}
	if err := a.tw.Close(); err != nil {
		return nil, fmt.Errorf("close the tar: %w", err)
	}
	return d.list, nil
}

// declare writes the bag declaration.
func (in Input) declare(ctx context.Context, a *archive, _ *damages) error {
	return a.text(ctx, Declaration, []byte(DeclarationText))
}

// info is bag-info.txt (RFC 8493 §2.2.2). Its values are ids, times and
// numbers, and so hold no line breaks.
func (in Input) info(a *archive) []byte {
	m := in.Manifest
	return fmt.Appendf(nil, "Bag-Software-Agent: bp-relay\n"+
		"Bagging-Date: %s\n"+
		"External-Identifier: %s\n"+
		"External-Description: evidence of %s\n"+
		"Bag-Group-Identifier: %s\n"+
		"BagIt-Profile-Identifier: %s\n"+
		"Payload-Oxum: %d.%d\n",
		in.Time.UTC().Format(time.DateOnly), in.Export, EncodePath(m.Capture), EncodePath(m.Owner), Profile, a.octets, a.files)
}

// vouch writes the checkpoint, the keys and the custody log.
func (in Input) vouch(ctx context.Context, a *archive, _ *damages) error {
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
func (in Input) prove(ctx context.Context, a *archive, _ *damages) error {
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

// segments writes the ciphertexts that are the sealed ones.
func (in Input) segments(ctx context.Context, a *archive, d *damages) error {
	m := in.Manifest
	for _, s := range m.Streams {
		for _, g := range s.Segments {
			body, ok, err := d.stored(ctx, s.Name, g)
			if err == nil && ok {
				err = a.text(ctx, SegmentPath(CaptureID(m.Capture), s.Name, g), body)
			}
			if err != nil {
				return fmt.Errorf("bag: stream %s segment %d: %w", s.Name, g.Seq, err)
			}
		}
	}
	return nil
}

// playables writes the decrypted files, with zero bytes for what is damaged.
func (in Input) playables(ctx context.Context, a *archive, d *damages) error {
	m := in.Manifest
	for _, s := range m.Streams {
		r, err := in.Media.Plain(ctx, m, s.Name)
		if err != nil {
			return fmt.Errorf("bag: stream %s: %w", s.Name, err)
		}
		_, err = a.add(ctx, PlayablePath(CaptureID(m.Capture), s.Name, s.Ext), s.Bytes, &playing{ctx: ctx, d: d, s: s, from: r})
		if cerr := r.Close(); err == nil && cerr != nil {
			err = cerr
		}
		if err != nil {
			return fmt.Errorf("bag: stream %s: %w", s.Name, err)
		}
	}
	return nil
}

// lacks states what is damaged, if anything is.
func (in Input) lacks(ctx context.Context, a *archive, d *damages) error {
	if len(d.list) == 0 {
		return nil
	}
	var text []byte
	for _, x := range d.list {
		line, err := x.encode()
		if err != nil {
			return err
		}
		text = append(text, line...)
	}
	return a.text(ctx, Damaged, text)
}

func (in Input) explain(ctx context.Context, a *archive, d *damages) error {
	report, err := in.report(d.list)
	if err != nil {
		return err
	}
	defer func() { _ = report.Close() }()
	if _, err := a.spool(ctx, Report, report); err != nil {
		return err
	}
	crate, err := in.crate()
	if err != nil {
		return err
	}
	if err := a.text(ctx, Crate, crate); err != nil {
		return err
	}
	return a.text(ctx, Info, in.info(a)) // late: it counts the payload
}

// sign writes the bag manifests and the signature over them.
func (in Input) sign(ctx context.Context, a *archive, _ *damages) error {
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
		Files: a.sums,
	}.Sign(in.Signer)
	if err != nil {
		return err
	}
	return a.text(ctx, Signature, env)
}
