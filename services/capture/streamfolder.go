package capture

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

// makeFolder makes the stream's folder with its description, durably: from then
// on the stream exists, whatever the records know of it.
func (s *Stream) makeFolder() error {
	if err := makeDir(s.dir); err != nil {
		return err
	}
	b, err := json.Marshal(s.doc)
	if err != nil {
		return fmt.Errorf("marshal stream: %w", err)
	}
	return writeFileAtomic(filepath.Join(s.dir, streamFile), b)
}

// readStreamFile reads the description of the stream in a folder.
func readStreamFile(dir string) (sd streamDoc, err error) {
	b, err := os.ReadFile(filepath.Join(dir, streamFile))
	if err != nil {
		return sd, fmt.Errorf("read %s: %w", streamFile, err)
	}
	if err := json.Unmarshal(b, &sd); err != nil {
		return sd, fmt.Errorf("parse %s: %w", streamFile, err)
	}
	if sd.Name != filepath.Base(dir) || sd.check() != nil {
		return sd, fmt.Errorf("%w: %s describes stream %q", ErrInvalid, filepath.Join(dir, streamFile), sd.Name)
	}
	return sd, nil
}
