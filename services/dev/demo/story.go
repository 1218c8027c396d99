package demo

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/mattn/go-isatty"

	"github.com/openova-io/bp-relay/services/format/printable"
)

const (
	// patience is how long something may take before the output mentions it.
	patience = 500 * time.Millisecond
	// heartbeat is how often the output says that something still runs, if it is
	// not a terminal.
	heartbeat = 10 * time.Second
)

// story prints what happens: numbered steps, a line per checked fact, and the
// elapsed time of long work. Without a terminal it is plain text that only grows.
type story struct {
	w     io.Writer
	tty   bool
	step  int
	steps int
}

func newStory(w io.Writer, steps int) *story {
	f, ok := w.(*os.File)
	return &story{w: w, tty: ok && isatty.IsTerminal(f.Fd()), steps: steps}
}

func (s *story) style(code, text string) string {
	if !s.tty {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// begin prints the title of the next step.
func (s *story) begin(title string) {
	s.step++
	fmt.Fprintf(s.w, "\n%s\n", s.style("1", fmt.Sprintf("[%d/%d] %s", s.step, s.steps, title)))
}

// ok prints a check that passed.
func (s *story) ok(format string, args ...any) {
	fmt.Fprintf(s.w, "  %s %s\n", s.style("32", "✔"), indent(fmt.Sprintf(format, args...)))
}

// bad prints one that failed.
func (s *story) bad(format string, args ...any) {
	fmt.Fprintf(s.w, "  %s %s\n", s.style("31", "✘"), indent(fmt.Sprintf(format, args...)))
}

// note adds a line to the check before.
func (s *story) note(format string, args ...any) {
	fmt.Fprintf(s.w, "    %s\n", indent(fmt.Sprintf(format, args...)))
}

// indent aligns further lines with the first one. What others wrote is in them.
func indent(text string) string {
	return strings.ReplaceAll(printable.Text(text), "\n", "\n    ")
}

// during calls do, and prints the elapsed time while that takes long.
func (s *story) during(what string, do func() error) error {
	stop := make(chan struct{})
	var printing sync.WaitGroup
	printing.Go(func() { s.tick(what, stop) })
	err := do()
	close(stop)
	printing.Wait()
	return err
}

func (s *story) tick(what string, stop <-chan struct{}) {
	every, began := heartbeat, time.Now()
	select {
	case <-stop:
		return
	case <-time.After(patience):
	}
	if s.tty {
		every = time.Second
		fmt.Fprintf(s.w, "  … %s", what)
		defer fmt.Fprint(s.w, "\r\x1b[K")
	} else {
		fmt.Fprintf(s.w, "  … %s\n", what)
	}
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		select {
		case <-stop:
			return
		case <-t.C:
		}
		took := time.Since(began).Round(time.Second)
		if s.tty {
			fmt.Fprintf(s.w, "\r\x1b[K  … %s, %s so far", what, took)
		} else {
			fmt.Fprintf(s.w, "  … %s, %s so far\n", what, took)
		}
	}
}

// size formats a number of bytes for people.
func size(n int64) string {
	switch {
	case n >= 10<<20:
		return fmt.Sprintf("%.0f MiB", float64(n)/(1<<20))
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	case n >= 10<<10:
		return fmt.Sprintf("%.0f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%d bytes", n)
}
