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

	"github.com/openova-io/bp-relay/loadtest/internal/result"
)

// lineEvery is the time between two lines if the output is not a terminal.
const lineEvery = 5 * time.Second

// history is how many updates the sparklines show.
const history = 60

// View writes progress to one writer. Its methods may be called from several
// goroutines.
type View struct {
	mu     sync.Mutex
	w      io.Writer
	tty    bool
	width  func() int
	drawn  int // lines of the block on the screen
	next   time.Duration
	recent map[string][]float64 // received bit/s by path
	order  []string             // paths, in order of appearance
	joined map[string]int       // since the run began
	failed map[string]int
	closed bool
}

// New returns a view that writes to w; isTerminal reports whether w takes control
// sequences. Lines are cut at the width of w if it is a terminal of the operating
// system, otherwise at 80 columns.
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

// Update shows p: at once on a terminal, otherwise if five seconds of the run
// have passed since the last line. It ignores write errors, so that the run goes
// on. It does nothing after Close.
func (v *View) Update(p result.Progress) {
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

// Close leaves the last block on the screen and shows the cursor again. A second
// Close does nothing.
func (v *View) Close() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.tty && v.drawn > 0 && !v.closed {
		_, _ = io.WriteString(v.w, showCursor)
	}
	v.closed = true
}

func (v *View) remember(p result.Progress) {
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

// draw replaces the block in one write, so that a terminal never shows half of
// it.
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

// cut shortens a line to n columns; every rune used here is one column wide.
func cut(s string, n int) string {
	r := []rune(strings.TrimRight(s, " "))
	if len(r) > n {
		r = append(r[:max(n-1, 0)], '…')
	}
	return string(r)
}
