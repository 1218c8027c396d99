package part

import (
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

// live shows lines that change, at the bottom of a terminal. It belongs to a
// [Printer], which calls it under its lock.
type live struct {
	w    *os.File
	bars *mpb.Progress // nil while there are no lines
	line map[Name]*liveLine
}

type liveLine struct {
	bar  *mpb.Bar
	text atomic.Pointer[string]
}

// set makes or changes a line.
func (l *live) set(k Name, head, words string, since time.Time) {
	if l.bars == nil {
		l.bars = mpb.New(mpb.WithOutput(l.w), mpb.WithRefreshRate(200*time.Millisecond))
		l.line = map[Name]*liveLine{}
	}
	text := head + "  " + words
	if have := l.line[k]; have != nil {
		have.text.Store(&text)
		return
	}
	line := new(liveLine)
	line.text.Store(&text)
	line.bar = l.bars.New(0, mpb.SpinnerStyle().PositionLeft(), mpb.BarWidth(1),
		mpb.AppendDecorators(decor.Any(func(decor.Statistics) string {
			return fmt.Sprintf(" %s, %s", *line.text.Load(), round(time.Since(since)).Round(time.Second))
		})))
	l.line[k] = line
}

// drop removes a line.
func (l *live) drop(k Name) {
	if line := l.line[k]; line != nil {
		line.bar.Abort(true)
		delete(l.line, k)
	}
}

// print prints above the lines.
func (l *live) print(s string) {
	if l.bars == nil {
		_, _ = fmt.Fprintln(l.w, s)
		return
	}
	_, _ = fmt.Fprintln(l.bars, s)
}

// close removes all lines and waits until the terminal shows that.
func (l *live) close() {
	if l.bars == nil {
		return
	}
	for k := range l.line {
		l.drop(k)
	}
	l.bars.Wait()
	l.bars = nil
}
