package report

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

// VersionError is a document of a form that this program does not know.
type VersionError struct{ Schema string }

// Error says which program to take.
func (e *VersionError) Error() string {
	if e.Schema == "" {
		return fmt.Sprintf("it does not say what it is: a report begins with \"schema\": %q", Schema)
	}
	return fmt.Sprintf("it is of the form %q, and this program reads %q: use the relay-loadtest that wrote it, or run the test again", e.Schema, Schema)
}

// MaxBytes bounds the size of a report that Read takes: a day of a large run,
// second by second, has about 100 MB.
const MaxBytes = 1 << 30

// Read reads one report of at most MaxBytes. It is strict: a field that it
// does not know, or anything after the document, is an error, and so is
// another version, as a *VersionError.
func Read(r io.Reader) (*Report, error) {
	raw, err := io.ReadAll(io.LimitReader(r, MaxBytes+1))
	if err != nil {
		return nil, fmt.Errorf("report: %w", err)
	}
	if len(raw) > MaxBytes {
		return nil, fmt.Errorf("report: it has more than %d bytes", MaxBytes)
	}
	// The version comes first, since another one has other fields.
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
		return nil, errors.New("report: there is something after the report's end")
	}
	return &out, nil
}

// Write puts the report at path as indented JSON, whole or not at all, and
// makes the folder where it is missing.
func Write(path string, r *Report) (err error) {
	whole := *r // lists that must be there are [] rather than null
	whole.Schema = Schema
	whole.Parts = present(r.Parts)
	whole.Paths = present(r.Paths)
	whole.Processes = present(r.Processes)
	whole.Timeline = present(r.Timeline)
	whole.Thresholds = present(r.Thresholds)
	var raw bytes.Buffer
	enc := json.NewEncoder(&raw)
	enc.SetEscapeHTML(false) // "<" is for people, too
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
