package demo

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/mattn/go-isatty"
)

const (
	// patience is how long something takes before it is worth a word.
	patience = 500 * time.Millisecond
	// heartbeat is how often something long says that it still runs, where the
	// output is not a terminal.
	heartbeat = 10 * time.Second
)

// story tells a person what happens: numbered steps, a line per fact, and the
// time that runs while something takes long. Without a terminal it is plain
// text that only grows.
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

// begin opens the next step.
func (s *story) begin(title string) {
	s.step++
	fmt.Fprintf(s.w, "\n%s\n", s.style("1", fmt.Sprintf("[%d/%d] %s", s.step, s.steps, title)))
}

// ok is a fact that holds.
func (s *story) ok(format string, args ...any) {
	fmt.Fprintf(s.w, "  %s %s\n", s.style("32", "✔"), indent(fmt.Sprintf(format, args...)))
}

// bad is one that does not.
func (s *story) bad(format string, args ...any) {
	fmt.Fprintf(s.w, "  %s %s\n", s.style("31", "✘"), indent(fmt.Sprintf(format, args...)))
}

// note adds to the fact before.
func (s *story) note(format string, args ...any) {
	fmt.Fprintf(s.w, "    %s\n", indent(fmt.Sprintf(format, args...)))
}

// indent keeps further lines under the first.
func indent(text string) string { return strings.ReplaceAll(text, "\n", "\n    ") }

// during says that something takes a while, until do returns.
func (s *story) during(what string, do func() error) error {
	stop := make(chan struct{})
	var told sync.WaitGroup
	told.Go(func() { s.tick(what, stop) })
	err := do()
	close(stop)
	told.Wait()
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

// size writes a number of bytes for a person.
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
