package local

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
)

// Env is what parts are started from and in.
type Env struct {
	// Dir holds, per part, a folder with its config, secrets and data, and
	// logs/ with one file per part. Two runs may not share it at a time.
	Dir string
	// Tools says where the programs are: see [Obtainer.Obtain].
	Tools Tools
	// Ports gives free ports where none is fixed. It is released by the
	// caller after the parts were stopped.
	Ports *Ports
	// OnExit is told, from another goroutine, of a part that ended by itself.
	OnExit func(Exit)
	// Logger may be nil.
	Logger *slog.Logger
}

// tool returns the path of an obtained program.
func (e *Env) tool(name string, part Name) (string, error) {
	if p := e.Tools[name]; p != "" {
		return p, nil
	}
	return "", fmt.Errorf("local: %s was not obtained: call Obtain with part %s first", name, part)
}

// folder makes the part's own folder, closed to other users.
func (e *Env) folder(part Name) (string, error) {
	dir, err := filepath.Abs(filepath.Join(e.Dir, string(part)))
	if err != nil {
		return "", fmt.Errorf("%s: %w", part, err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("%s: make its folder: %w", part, err)
	}
	return dir, nil
}

func (e *Env) logFile(part Name) string {
	p := filepath.Join(e.Dir, "logs", string(part)+".log")
	if abs, err := filepath.Abs(p); err == nil {
		return abs
	}
	return p
}

func (e *Env) logger() *slog.Logger {
	if e.Logger == nil {
		return slog.Default()
	}
	return e.Logger
}

// port returns the fixed number n as it is, and a free one for 0.
func (e *Env) port(n int, use, flag string, udp bool) (Port, error) {
	p := Port{Number: n, Use: use, Flag: flag, UDP: udp}
	if n == 0 {
		free, err := e.Ports.Take()
		if err != nil {
			return p, err
		}
		p.Number = free
	}
	return p, nil
}
