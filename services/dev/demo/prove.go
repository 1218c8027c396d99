package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	evidencev1 "github.com/openova-io/bp-relay/gen/relay/evidence/v1"

	"github.com/openova-io/bp-relay/services/verify"
)

// exported is one capture and the bag of its export.
type exported struct {
	title, file string
	capture     string
	path        string
	bytes       int64
	entries     []entry
}

// prove exports the captures that are not exported yet, verifies the bags, and
// alters copies.
func (r *run) prove(ctx context.Context) error {
	for i := range r.bags {
		b := &r.bags[i]
		if err := r.export(ctx, b); err != nil {
			return err
		}
		began := time.Now()
		rep, err := verify.Verify(ctx, verify.Config{Bag: b.path, Key: r.logKey})
		if err != nil {
			return err
		}
		if !rep.OK {
			return fmt.Errorf("%s does not verify:\n%s", b.path, text(rep))
		}
		r.story.ok("relay verify %s: OK", filepath.Base(b.path))
		r.story.note("%d files, %s, %d segments of %d streams, %d custody entries, log of %d entries, in %d ms, offline", rep.Files, size(rep.Bytes), rep.Segments, rep.Streams, rep.Custody, rep.Entries, time.Since(began).Milliseconds())
		if err := r.tamper(ctx, *b); err != nil {
			return err
		}
	}
	return nil
}

// export downloads a capture's bag, as the auditor.
func (r *run) export(ctx context.Context, b *exported) error {
	if b.path != "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	stream, err := r.api.evidence.ExportCapture(r.api.as(ctx, auditor), &evidencev1.ExportCaptureRequest{Capture: b.capture})
	if err != nil {
		return explain("ExportCapture", err)
	}
	path := r.file(b.file + ".tar")
	n, sum, err := download(path, "ExportCapture", func() ([]byte, error) {
		m, err := stream.Recv()
		return m.GetData(), err
	})
	if err != nil {
		return err
	}
	if b.entries, err = list(path); err != nil {
		return err
	}
	b.path, b.bytes = path, n
	r.story.ok("%s exported to %s: %s, one BagIt bag of %d files", b.title, filepath.Base(path), size(n), len(b.entries))
	r.story.note("%s, sha256 %s", b.capture, sum)
	return nil
}

// unpack writes the bag's first file whose path has this suffix.
func (b exported) unpack(suffix, to string) error {
	for _, e := range b.entries {
		if strings.HasSuffix(e.name, suffix) {
			return splice(b.path, to, piece{from: e.body, to: e.body + e.size})
		}
	}
	return fmt.Errorf("%s holds no file %s", b.path, suffix)
}

// tamper makes altered copies. Verification must fail on each and name the place.
func (r *run) tamper(ctx context.Context, b exported) error {
	list, err := b.alterations()
	if err != nil {
		return err
	}
	var errs []error
	for _, a := range list {
		path := r.file(b.file + "-" + a.id + ".tar")
		if err := splice(b.path, path, a.pieces...); err != nil {
			return err
		}
		r.tried++
		rep, err := verify.Verify(ctx, verify.Config{Bag: path, Key: r.logKey})
		if err != nil {
			return err
		}
		f, ok := a.found(rep)
		if !ok {
			errs = append(errs, fmt.Errorf("%s: verify does not name it as %s at %s:\n%s", a.what, a.code, a.file, text(rep)))
			continue
		}
		r.found++
		r.story.ok("%s: relay verify fails and names it", a.what)
		r.story.note("[%s] %s%s\nin %s", f.Code, f.What, others(rep), f.File)
		if !r.cfg.Keep {
			if err := os.Remove(path); err != nil {
				return err
			}
		}
	}
	return errors.Join(errs...)
}

func others(rep verify.Report) string {
	if n := len(rep.Findings) + rep.More - 1; n > 0 {
		return fmt.Sprintf(" (and %d more that follow from it)", n)
	}
	return ""
}

func text(rep verify.Report) string {
	var b strings.Builder
	_ = rep.WriteText(&b) // writing to a Builder never fails
	return b.String()
}
