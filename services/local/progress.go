package local

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/mattn/go-isatty"
)

// Stage is what happens to a part.
type Stage string

// The stages. Each part goes through any of the first four and then exactly
// one of the last three.
const (
	StageWaiting    Stage = "waiting for another run that is making it"
	StageBuilding   Stage = "building"
	StageInstalling Stage = "installing"
	StageStarting   Stage = "starting"

	StageFound  Stage = "ready" // it was there already, or runs now
	StageMade   Stage = "built"
	StageFailed Stage = "failed"
)

func (s Stage) last() bool { return s == StageFound || s == StageMade || s == StageFailed }

// Event tells of one part's step. Index counts from 1 to Total.
type Event struct {
	Stage        Stage
	Index, Total int
	Part         Name
	Version      string
	// Took is the time since the part's turn began; set on the last event.
	Took time.Duration
	// Log is the file that holds the output of what runs, or "".
	Log string
}

// Progress receives events, in order and from one goroutine at a time. A nil
// Progress is allowed wherever one is asked for.
type Progress func(Event)

func (p Progress) report(e Event) {
	if p != nil {
		p(e)
	}
}

// Printer shows progress to a person: one line per part, with the time that
// runs on a terminal, and plain lines elsewhere.
type Printer struct {
	w   io.Writer
	tty bool

	stop chan struct{}
	done sync.WaitGroup
}

// NewPrinter returns a printer to w.
func NewPrinter(w io.Writer) *Printer {
	f, ok := w.(*os.File)
	return &Printer{w: w, tty: ok && isatty.IsTerminal(f.Fd())}
}

// Report is the printer's [Progress].
func (p *Printer) Report(e Event) {
	p.halt()
	head := fmt.Sprintf("[%d/%d] %s", e.Index, e.Total, e.Part)
	if e.Version != "" {
		head += " " + e.Version
	}
	if e.Stage.last() {
		line := fmt.Sprintf("%s %s in %s", head, e.Stage, round(e.Took))
		if e.Stage == StageFound && e.Took < 500*time.Millisecond {
			line = fmt.Sprintf("%s %s", head, e.Stage)
		}
		if e.Stage == StageFailed && e.Log != "" {
			line += "; output in " + e.Log
		}
		p.line(line)
		return
	}
	if !p.tty && e.Stage == StageStarting {
		return // takes seconds: its end is enough
	}
	if !p.tty {
		line := fmt.Sprintf("%s %s ...", head, e.Stage)
		if e.Log != "" {
			line += " (output in " + e.Log + ")"
		}
		p.line(line)
		return
	}
	stop := make(chan struct{})
	p.stop = stop
	p.done.Go(func() {
		began := time.Now()
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			fmt.Fprintf(p.w, "\r\x1b[K%s %s ... %s", head, e.Stage, round(time.Since(began)))
			select {
			case <-stop:
				return
			case <-tick.C:
			}
		}
	})
}

// Close ends a line that still runs. The printer may be used again.
func (p *Printer) Close() { p.halt() }

func (p *Printer) halt() {
	if p.stop == nil {
		return
	}
	close(p.stop)
	p.done.Wait()
	p.stop = nil
	fmt.Fprint(p.w, "\r\x1b[K")
}

func (p *Printer) line(s string) { fmt.Fprintln(p.w, s) }

func round(d time.Duration) time.Duration {
	if d < 10*time.Second {
		return d.Round(100 * time.Millisecond)
	}
	return d.Round(time.Second)
}
