package process

import (
	"fmt"
	"os"
	"strings"
)

// StartError reports that a program was started and did not become ready, or
// could not be started.
type StartError struct {
	Name string
	// Log is the log file ("" if there is none), Last the last line that this
	// start wrote to it.
	Log, Last string
	// Hint says what to do, or is "".
	Hint string
	Err  error
}

func (e *StartError) Error() string {
	s := fmt.Sprintf("%s did not start: %v", e.Name, e.Err)
	if e.Last != "" {
		s += fmt.Sprintf("; it last said: %s", e.Last)
	}
	if e.Hint != "" {
		s += "; " + e.Hint
	}
	if e.Log != "" {
		s += "; its log is " + e.Log
	}
	return s
}

func (e *StartError) Unwrap() error { return e.Err }

// Exit reports that a process exited although nobody had stopped it.
type Exit struct {
	Name string
	// Err is the exit status: "exit status 1", "signal: killed".
	Err error
	// Log is the log file, Last the last line in it.
	Log, Last string
}

func (e Exit) Error() string {
	return fmt.Sprintf("%s exited by itself (%v); it last said: %s; its log is %s", e.Name, e.Err, e.Last, e.Log)
}

func (e Exit) Unwrap() error { return e.Err }

// LastLine returns the last line of the file at path that is not blank; ""
// if there is none. It reads only what was written after offset, and at most
// the last 4 KiB. The line is cut at 300 bytes.
func LastLine(path string, offset int64) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }()
	st, err := f.Stat()
	if err != nil {
		return ""
	}
	from := max(offset, st.Size()-4096)
	buf := make([]byte, max(0, st.Size()-from))
	n, _ := f.ReadAt(buf, from)
	lines := strings.Split(strings.TrimSpace(string(buf[:n])), "\n")
	last := strings.TrimSpace(lines[len(lines)-1])
	if len(last) > 300 {
		last = last[:300] + "..."
	}
	return last
}
