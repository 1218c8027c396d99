package stack

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/openova-io/bp-relay/services/dev/part"
	"github.com/openova-io/bp-relay/services/dev/process"
)

// Env holds what parts are started from and in.
type Env struct {
	// Dir holds a folder for each part, with its config, secrets and data, and
	// logs/ with one file for each part. One run uses it at a time.
	Dir string
	// Tools says where the programs are: see [part.Obtainer.Obtain].
	Tools part.Tools
	// Ports gives free ports to parts that have no fixed one. The caller
	// releases it after it has stopped the parts.
	Ports *Ports
	// OnExit is called if a part exits by itself: see [process.Spec].
	OnExit func(process.Exit)
	// Logger may be nil: slog.Default().
	Logger *slog.Logger
}

// tool returns the path of an obtained program.
func (e *Env) tool(program string, name part.Name) (string, error) {
	if p := e.Tools[program]; p != "" {
		return p, nil
	}
	return "", fmt.Errorf("stack: %s was not obtained: call Obtain with part %s first", program, name)
}

// folder makes the part's own folder, which other users cannot enter.
func (e *Env) folder(name part.Name) (string, error) {
	dir, err := filepath.Abs(filepath.Join(e.Dir, string(name)))
	if err != nil {
		return "", fmt.Errorf("%s: %w", name, err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("%s: make its folder: %w", name, err)
	}
	if err := os.Chmod(dir, 0o700); err != nil { // an earlier version's
		return "", fmt.Errorf("%s: close its folder to others: %w", name, err)
	}
	return dir, nil
}

func (e *Env) logFile(name part.Name) string {
	p := filepath.Join(e.Dir, "logs", string(name)+".log")
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

// port returns n, or a free port if n is 0.
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
