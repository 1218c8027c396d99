package result

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

//go:embed schema.json
var schemaJSON []byte

// SchemaJSON is the JSON Schema (draft 2020-12) of a Report, with a
// description and the unit of every field. The copy is the caller's.
func SchemaJSON() []byte { return bytes.Clone(schemaJSON) }

// VersionError is returned for a document of a version that this program cannot
// read.
type VersionError struct{ Schema string }

// Error names the program to use.
func (e *VersionError) Error() string {
	if e.Schema == "" {
		return fmt.Sprintf("no schema: a report begins with \"schema\": %q", Schema)
	}
	return fmt.Sprintf("schema %q: this program reads %q; use the relay-loadtest that wrote it, or run the test again", e.Schema, Schema)
}

// MaxBytes bounds the size of a report that Read takes: a day of a large run,
// second by second, has about 100 MB.
const MaxBytes = 1 << 30

// Read reads one report of at most MaxBytes. It is strict: an unknown field and
// data after the document are errors; another version is a *VersionError.
func Read(r io.Reader) (*Report, error) {
	raw, err := io.ReadAll(io.LimitReader(r, MaxBytes+1))
	if err != nil {
		return nil, fmt.Errorf("report: %w", err)
	}
	if len(raw) > MaxBytes {
		return nil, fmt.Errorf("report: it has more than %d bytes", MaxBytes)
	}
	// Check the version first: another version has other fields.
	var head struct {
		Schema string `json:"schema"`
	}
	if err := json.Unmarshal(raw, &head); err != nil {
		return nil, fmt.Errorf("report: %w", err)
	}
	if head.Schema != Schema {
		return nil, fmt.Errorf("report: %w", &VersionError{head.Schema})
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	var out Report
	if err := dec.Decode(&out); err != nil {
		return nil, fmt.Errorf("report: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("report: data after the end of the report")
	}
	return &out, nil
}

// Write writes the report to path as indented JSON, completely or not at all. It
// creates a missing folder.
func Write(path string, r *Report) (err error) {
	whole := *r // required lists are [] rather than null
	whole.Schema = Schema
	whole.Parts = present(r.Parts)
	whole.Paths = present(r.Paths)
	whole.Processes = present(r.Processes)
	whole.Timeline = present(r.Timeline)
	whole.Thresholds = present(r.Thresholds)
	var raw bytes.Buffer
	enc := json.NewEncoder(&raw)
	enc.SetEscapeHTML(false) // keep "<" readable
	enc.SetIndent("", " ")
	if err := enc.Encode(whole); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".report-*")
	if err != nil {
		return fmt.Errorf("report: %w", err)
	}
	_, err = f.Write(raw.Bytes())
	if err = errors.Join(err, f.Chmod(0o644), f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("report: %w", errors.Join(err, os.Remove(f.Name())))
	}
	return nil
}

func present[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}
