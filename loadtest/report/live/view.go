package live

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"github.com/openova-io/bp-relay/loadtest/report"
)

// lineEvery is the time between two lines where there is no terminal.
const lineEvery = 5 * time.Second

// history is how many updates the sparklines show.
const history = 60

// Progress is what is known at one moment of the run.
type Progress struct {
	// Elapsed is since the run began, warm-up included; Total is how long it
	// will be, 0 when that is not known.
	Elapsed, Total time.Duration
	Phase          string // "warm-up", "ramp to 400", "hold"
	// Point is the last second; its paths and processes become rows.
	Point report.Point
	// Health is what is wrong with the generator, "" when nothing is.
	Health string
	Note   string // anything else
}

// View writes progress to one writer. Its methods may be called from several
// goroutines.
type View struct {
	mu     sync.Mutex
	w      io.Writer
	tty    bool
	width  func() int
	drawn  int // lines of the block that stand there
	next   time.Duration
	recent map[string][]float64 // received bit/s by path
	order  []string             // paths, as they came
	joined map[string]int       // since the run began
	failed map[string]int
	closed bool
}

// New writes to w; isTerminal says whether w takes control sequences. Where w
// is a terminal of the operating system, lines are cut at its width, else at 80
// columns.
func New(w io.Writer, isTerminal bool) *View {
	width := func() int { return 80 }
	if f, ok := w.(*os.File); ok {
		width = func() int {
			if n, _, err := term.GetSize(int(f.Fd())); err == nil && n > 0 {
				return n
			}
			return 80
		}
	}
	return &View{w: w, tty: isTerminal, width: width, recent: map[string][]float64{}, joined: map[string]int{}, failed: map[string]int{}}
}

// Update shows p: at once on a terminal, else when the last line is five
// seconds of the run old. A write that fails is lost; the run goes on. It does
// nothing after Close.
func (v *View) Update(p Progress) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.closed {
		return
	}
	v.remember(p)
	if !v.tty {
		if p.Elapsed >= v.next {
			v.next = p.Elapsed.Truncate(lineEvery) + lineEvery
			_, _ = io.WriteString(v.w, oneLine(p)+"\n")
		}
		return
	}
	v.draw(block(p, v, v.width()))
}

// Close leaves the last block standing and gives the cursor back. Closing
// twice is one.
func (v *View) Close() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.tty && v.drawn > 0 && !v.closed {
		_, _ = io.WriteString(v.w, showCursor)
	}
	v.closed = true
}

func (v *View) remember(p Progress) {
	for _, x := range p.Point.Paths {
		if _, ok := v.recent[x.Name]; !ok {
			v.order = append(v.order, x.Name)
		}
		r := append(v.recent[x.Name], x.ReceivedBps)
		v.recent[x.Name] = r[max(len(r)-history, 0):]
		v.joined[x.Name] += x.Joins
		v.failed[x.Name] += x.Failed
	}
}

// Control sequences (ECMA-48): CPL, EL, ED, and DEC's cursor mode.
const (
	up         = "\x1b[%dF"
	clearLine  = "\x1b[K"
	clearBelow = "\x1b[J"
	hideCursor = "\x1b[?25l"
	showCursor = "\x1b[?25h"
)

// draw replaces the block in one write, so that a terminal shows no half one.
func (v *View) draw(lines []string) {
	var b bytes.Buffer
	if v.drawn == 0 {
		b.WriteString(hideCursor)
	} else {
		fmt.Fprintf(&b, up, v.drawn)
	}
	for _, l := range lines {
		b.WriteString(l)
		b.WriteString(clearLine + "\n")
	}
	b.WriteString(clearBelow)
	v.drawn = len(lines)
	_, _ = v.w.Write(b.Bytes())
}

// cut shortens a line to n columns; every rune that is used here is one wide.
func cut(s string, n int) string {
	r := []rune(strings.TrimRight(s, " "))
	if len(r) > n {
		r = append(r[:max(n-1, 0)], '…')
	}
	return string(r)
}
