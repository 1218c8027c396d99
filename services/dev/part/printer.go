package part

import (
	"bytes"
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
	// every is how often a plain printer says what still runs.
	every = 15 * time.Second
	// tailLines is how much of a failed part's output is shown.
	tailLines = 12
)

// Printer shows progress to a person. On a terminal each part that is being
// made has a live line; elsewhere a plain line is printed when something
// begins, every 15 s while it runs, and when it ends. Close it at the end, or
// a live line may stay behind.
type Printer struct {
	w    io.Writer
	live *live // nil: not a terminal

	mu      sync.Mutex
	running map[Name]*running
	order   []Name
	done    chan struct{} // closed to end the goroutine of plain lines; nil if none runs
	ended   sync.WaitGroup
}

// running is a part that is being made.
type running struct {
	Event
	since time.Time
}

// NewPrinter returns a printer to w.
func NewPrinter(w io.Writer) *Printer {
	p := &Printer{w: w, running: map[Name]*running{}}
	if f, ok := w.(*os.File); ok && isatty.IsTerminal(f.Fd()) {
		p.live = &live{w: f}
	}
	return p
}

// Report is the printer's [Progress].
func (p *Printer) Report(e Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case e.Stage == StagePlanned:
		p.print(strings.TrimSuffix(e.Plan.String(), "\n"))
	case e.Stage == StageDone:
		p.print(fmt.Sprintf("Got %d of %d in %s; they take %s of disk.", len(e.Plan.Missing), e.Total, round(e.Took), bytesOf(e.Plan.Disk)))
	case e.Stage.last():
		p.finish(e)
	default:
		p.update(e)
	}
}

// Missing is a [Progress] that leaves out parts that are there already.
func (p *Printer) Missing(e Event) {
	if e.Stage != StageFound {
		p.Report(e)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.forget(key(e)) // another run has made it meanwhile
}

// Close ends the live lines. The printer may be used again.
func (p *Printer) Close() {
	p.mu.Lock()
	p.running, p.order = map[Name]*running{}, nil
	p.halt()
	if p.live != nil {
		p.live.close()
	}
	p.mu.Unlock()
	p.ended.Wait()
}

// key is what an event's line is called: starting parts share one.
func key(e Event) Name {
	if e.Stage == StageStarting {
		return "starting"
	}
	return e.Part
}

func (p *Printer) update(e Event) {
	k := key(e)
	r := p.running[k]
	isNew := r == nil || r.Stage != e.Stage
	if r == nil {
		r = &running{since: time.Now()}
		p.running[k] = r
		p.order = append(p.order, k)
	}
	r.Event = e
	switch {
	case p.live != nil:
		p.live.set(k, head(e), words(e), r.since)
	case e.Stage == StageStarting: // takes seconds: its end is enough
		p.forget(k)
	case isNew:
		line := fmt.Sprintf("%s %s ...", head(e), words(e))
		if e.Log != "" && (e.Stage == StageBuilding || e.Stage == StageInstalling) {
			line += " (output in " + e.Log + ")"
		}
		p.print(line)
		p.repeat()
	}
}

func (p *Printer) finish(e Event) {
	p.forget(e.Part)
	if e.Index == e.Total {
		p.forget("starting")
	}
	line := fmt.Sprintf("%s %s in %s", head(e), e.Stage, round(e.Took))
	if e.Stage == StageFound && e.Took < 500*time.Millisecond {
		line = fmt.Sprintf("%s %s", head(e), e.Stage)
	}
	if e.Stage == StageFailed && e.Log != "" {
		line += "; output in " + e.Log
		for _, l := range tail(e.Log) {
			line += "\n    " + l
		}
	}
	p.print(line)
}

func (p *Printer) forget(k Name) {
	delete(p.running, k)
	for i, n := range p.order {
		if n == k {
			p.order = append(p.order[:i:i], p.order[i+1:]...)
			break
		}
	}
	if p.live != nil {
		p.live.drop(k)
	} else if len(p.running) == 0 {
		p.halt()
	}
}

// print prints a text of many lines, in which programs that we run are quoted.
func (p *Printer) print(s string) {
	s = printable.Text(s)
	if p.live != nil {
		p.live.print(s)
		return
	}
	_, _ = fmt.Fprintln(p.w, s)
}

// repeat starts the goroutine that says what still runs, if none does.
func (p *Printer) repeat() {
	if p.done != nil {
		return
	}
	done := make(chan struct{})
	p.done = done
	p.ended.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				p.say()
			}
		}
	})
}

// halt ends that goroutine, which may still be waiting for p.mu.
func (p *Printer) halt() {
	if p.done != nil {
		close(p.done)
		p.done = nil
	}
}

func (p *Printer) say() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, k := range p.order {
		r := p.running[k]
		if r.Stage == StageQueued { // said once
			continue
		}
		_, _ = fmt.Fprintf(p.w, "%s %s, %s so far\n", head(r.Event), words(r.Event), round(time.Since(r.since)))
	}
}

// head names an event's part: "[2/4] livekit 1.11.0".
func head(e Event) string {
	h := fmt.Sprintf("[%d/%d] %s", e.Index, e.Total, e.Part)
	if e.Version != "" {
		h += " " + e.Version
	}
	return h
}

func words(e Event) string {
	if e.Doing != "" {
		return string(e.Stage) + ": " + e.Doing
	}
	return string(e.Stage)
}

// tail returns the last lines of a log, at most 4 KiB of them.
func tail(path string) []string {
	body, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	body = bytes.TrimSpace(body[max(0, len(body)-4096):])
	if len(body) == 0 {
		return nil
	}
	all := strings.Split(string(body), "\n")
	return all[max(0, len(all)-tailLines):]
}

func round(d time.Duration) time.Duration {
	if d < 10*time.Second {
		return d.Round(100 * time.Millisecond)
	}
	return d.Round(time.Second)
}
