package work

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/openova-io/bp-relay/services/blob"
)

// folder stores Objects in a folder that all workers see: on one machine, or on
// a network file system with hard links.
type folder struct{ root *os.Root }

// openFolder creates the folder if it is missing.
func openFolder(dir string) (*folder, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	return &folder{root}, nil
}

// temporary is the prefix of the names of files being written.
const temporary = ".tmp-"

// Put writes a temporary file and links it: link(2) is atomic and never
// replaces a file, so the process may die at any point.
func (f *folder) Put(ctx context.Context, key string, body []byte) (err error) {
	if err := ctx.Err(); err != nil {
		return err
	}
	if len(body) > blob.MaxBody {
		return fmt.Errorf("put %s: %w: %d bytes of at most %d", key, blob.ErrTooLarge, len(body), blob.MaxBody)
	}
	dir := path.Dir(key)
	if err := f.root.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("put %s: %w", key, err)
	}
	tmp := path.Join(dir, temporary+rand.Text())
	defer func() { // also if the write failed
		if rerr := f.root.Remove(tmp); rerr != nil && !errors.Is(rerr, fs.ErrNotExist) {
			err = errors.Join(err, rerr)
		}
	}()
	if err := f.write(tmp, body); err != nil {
		return fmt.Errorf("put %s: %w", key, err)
	}
	err = f.root.Link(tmp, key)
	if errors.Is(err, fs.ErrExist) {
		there, err := f.Get(ctx, key)
		if err == nil && !bytes.Equal(there, body) {
			err = blob.ErrExists
		}
		if err != nil {
			return fmt.Errorf("put %s: %w", key, err)
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("put %s: %w", key, err)
	}
	return f.sync(dir)
}

func (f *folder) write(name string, body []byte) error {
	file, err := f.root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = file.Write(body)
	if err == nil {
		err = file.Sync()
	}
	return errors.Join(err, file.Close())
}

// sync makes a link durable.
func (f *folder) sync(dir string) error {
	d, err := f.root.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (f *folder) Get(ctx context.Context, key string) (p []byte, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	file, err := f.root.Open(key)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("get %s: %w", key, blob.ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", key, err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	p, err = io.ReadAll(io.LimitReader(file, maxObject+1))
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", key, err)
	}
	if len(p) > maxObject {
		return nil, fmt.Errorf("get %s: larger than %d bytes: %w", key, maxObject, blob.ErrTooLarge)
	}
	return p, nil
}

func (f *folder) List(ctx context.Context, prefix string) ([]string, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	entries, err := fs.ReadDir(f.root.FS(), strings.TrimSuffix(prefix, "/"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", prefix, err)
	}
	var keys []string
	for _, e := range entries { // sorted by name
		if e.Type().IsRegular() && !strings.HasPrefix(e.Name(), temporary) {
			keys = append(keys, prefix+e.Name())
		}
	}
	return keys, nil
}

func (f *folder) Close() error { return f.root.Close() }
