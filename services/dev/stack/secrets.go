package stack

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// keepJSON returns the value in the file at path; if there is none, it makes
// one and writes it there with mode 0600. Thus a part's secrets live as long
// as its data.
func keepJSON[T any](path string, fresh func() (T, error)) (T, error) {
	var v T
	body, err := os.ReadFile(path)
	if err == nil {
		if err := json.Unmarshal(body, &v); err != nil {
			return v, fmt.Errorf("read %s: %w: remove it together with its folder", path, err)
		}
		return v, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return v, fmt.Errorf("read %s: %w", path, err)
	}
	if v, err = fresh(); err != nil {
		return v, err
	}
	return v, writeJSON(path, v)
}

// writeJSON writes v to path with mode 0600, completely or not at all.
func writeJSON(path string, v any) error {
	body, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return writeSecret(path, append(body, '\n'))
}

func writeSecret(path string, body []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-") // mode 0600
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer func() { _ = os.Remove(f.Name()) }()
	_, err = f.Write(body)
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// secret returns 26 random characters of A to Z and 2 to 7: 130 bits.
func secret() string { return rand.Text() }
