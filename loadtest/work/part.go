package work

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/openova-io/bp-relay/loadtest/report"
	"github.com/openova-io/bp-relay/services/blob"
)

const (
	// squeezeAbove is the size in bytes from which a part is compressed, so that
	// hours of timeline fit into one object.
	squeezeAbove = 8 << 20
	// maxPart bounds what a compressed part may grow to, in bytes.
	maxPart = 512 << 20
)

// ErrPart: an object is not the part that its key says.
var ErrPart = errors.New("work: not a part of this run")

// Put leaves the part of a worker. To put the same part again, also after an
// answer that was lost, succeeds; where the worker's key holds another part it
// fails with blob.ErrExists and changes nothing: two processes took themselves
// for the same worker, or the run's id was used before. A store that is away
// is waited for (Config.Patience).
func (s *Store) Put(ctx context.Context, w Worker, part *report.Report) error {
	body, err := encodePart(w, part)
	if err != nil {
		return err
	}
	err = s.patiently(ctx, "part", func() error { return s.objects.Put(ctx, w.key("part"), body) })
	if errors.Is(err, blob.ErrExists) {
		return fmt.Errorf("work: run %s has another part of worker %d of %d already; start each run under an id of its own: %w", w.Run, w.Index, w.Count, err)
	}
	if err != nil {
		return fmt.Errorf("work: part of worker %d of %d of run %s: %w", w.Index, w.Count, w.Run, err)
	}
	return nil
}

// Parts reads the parts of a run, in the order of the workers, and checks that
// all are there: else it fails with a MissingError. Parts of runs with
// different numbers of workers under one id are ErrPart.
func (s *Store) Parts(ctx context.Context, run string) ([]*report.Report, error) {
	if err := checkRun(run); err != nil {
		return nil, err
	}
	var keys []string
	err := s.patiently(ctx, "list", func() (err error) {
		keys, err = s.objects.List(ctx, folderOf(run))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("work: list run %s: %w", run, err)
	}
	workers, err := present(run, "part", keys)
	if err != nil {
		return nil, err
	}
	if len(workers) == 0 {
		return nil, fmt.Errorf("work: run %s has no parts here; look at the run's id and at the store's address: %w", run, blob.ErrNotFound)
	}
	count := workers[0].Count
	if missing := absent(workers, count); len(missing) > 0 {
		return nil, &MissingError{Run: run, What: "left their part", Workers: missing, Count: count}
	}
	parts := make([]*report.Report, count)
	for i, w := range workers {
		var body []byte
		err := s.patiently(ctx, "part", func() (err error) {
			body, err = s.objects.Get(ctx, w.key("part"))
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("work: part of worker %d of run %s: %w", w.Index, run, err)
		}
		if parts[i], err = decodePart(w, body); err != nil {
			return nil, err
		}
	}
	return parts, nil
}

// present are the workers that have an object of the kind, by index. List
// gives keys in order, and names of five digits sort like their numbers.
func present(run, kind string, keys []string) ([]Worker, error) {
	var workers []Worker
	for _, key := range keys {
		k, w, ok := parseKey(run, key)
		if !ok || k != kind {
			continue
		}
		if len(workers) > 0 && w.Count != workers[0].Count {
			return nil, fmt.Errorf("%w: run %s has objects of %d and of %d workers; start each run under an id of its own", ErrPart, run, workers[0].Count, w.Count)
		}
		workers = append(workers, w)
	}
	return workers, nil
}

// absent are the indexes of count that are not among workers.
func absent(workers []Worker, count int) []int {
	there := make([]bool, count)
	for _, w := range workers {
		there[w.Index] = true
	}
	var missing []int
	for i, ok := range there {
		if !ok {
			missing = append(missing, i)
		}
	}
	return missing
}

func encodePart(w Worker, part *report.Report) ([]byte, error) {
	if err := w.Check(); err != nil {
		return nil, err
	}
	if err := checkPart(w, part); err != nil {
		return nil, err
	}
	body, err := json.Marshal(part)
	if err != nil {
		return nil, fmt.Errorf("work: write the part: %w", err)
	}
	if len(body) <= squeezeAbove {
		return body, nil
	}
	var b bytes.Buffer
	z := gzip.NewWriter(&b) // without a time: the same part gives the same bytes
	_, err = z.Write(body)
	if err = errors.Join(err, z.Close()); err != nil {
		return nil, fmt.Errorf("work: compress the part: %w", err)
	}
	return b.Bytes(), nil
}

// decodePart reads a part, compressed or not: no JSON begins as gzip does.
func decodePart(w Worker, body []byte) (*report.Report, error) {
	if bytes.HasPrefix(body, []byte{0x1f, 0x8b}) {
		z, err := gzip.NewReader(bytes.NewReader(body))
		if err == nil {
			body, err = io.ReadAll(io.LimitReader(z, maxPart+1))
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %s: %w", ErrPart, w.key("part"), err)
		}
		if len(body) > maxPart {
			return nil, fmt.Errorf("%w: %s is larger than %d bytes", ErrPart, w.key("part"), maxPart)
		}
	}
	part := new(report.Report)
	if err := json.Unmarshal(body, part); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrPart, w.key("part"), err)
	}
	return part, checkPart(w, part)
}

// checkPart says whether a report is the part of w.
func checkPart(w Worker, part *report.Report) error {
	if part.Schema != report.Schema {
		return fmt.Errorf("%w: %s has schema %q, this program writes %q: merge with the program that ran", ErrPart, w.key("part"), part.Schema, report.Schema)
	}
	if len(part.Parts) != 1 || part.Parts[0].Worker != w.Index || part.Parts[0].Workers != w.Count {
		return fmt.Errorf("%w: %s does not say that it is of worker %d of %d alone", ErrPart, w.key("part"), w.Index, w.Count)
	}
	return nil
}
