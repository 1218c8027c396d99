package local

import (
	"fmt"
	"os"
	"strings"
)

// BuildError tells that a part could not be built or installed.
type BuildError struct {
	Part Name
	// Log is the file with the whole output, Last its last line.
	Log, Last string
	Err       error
}

func (e *BuildError) Error() string {
	if e.Last == "" {
		return fmt.Sprintf("%s could not be built: %v", e.Part, e.Err)
	}
	return fmt.Sprintf("%s could not be built: %v: %s: the whole output is in %s", e.Part, e.Err, e.Last, e.Log)
}

func (e *BuildError) Unwrap() error { return e.Err }

// MissingError tells that Debian packages are missing which this user may not
// install.
type MissingError struct {
	Part     Name
	Packages []string
}

func (e *MissingError) Error() string {
	return fmt.Sprintf("missing: %s: install it with: sudo apt-get install %s", e.Part, strings.Join(e.Packages, " "))
}

// StartError tells that a part was started and did not become healthy.
type StartError struct {
	Part Name
	// Log is the part's log file, Last the last line that this start wrote.
	Log, Last string
	// Do says what to do, or is "".
	Do  string
	Err error
}

func (e *StartError) Error() string {
	s := fmt.Sprintf("%s did not start: %v", e.Part, e.Err)
	if e.Last != "" {
		s += fmt.Sprintf("; it last said: %s", e.Last)
	}
	if e.Do != "" {
		s += "; " + e.Do
	}
	return s + "; its log is " + e.Log
}

func (e *StartError) Unwrap() error { return e.Err }

// PortTakenError tells that a port is in use which a part needs.
type PortTakenError struct {
	Part Name
	Port Port
	// Owner is the process that has it ("nginx, pid 812"), or "" if unknown.
	Owner string
}

func (e *PortTakenError) Error() string {
	by := "another process"
	if e.Owner != "" {
		by = e.Owner
	}
	proto := "TCP"
	if e.Port.UDP {
		proto = "UDP"
	}
	s := fmt.Sprintf("%s port %d on 127.0.0.1 (%s of %s) is taken by %s: stop it", proto, e.Port.Number, e.Port.Use, e.Part, by)
	if e.Port.Flag != "" {
		s += fmt.Sprintf(" or choose another port with %s", e.Port.Flag)
	}
	return s
}

// AddressError tells that an existing server, given by address, does not do
// what is asked of it.
type AddressError struct {
	Part    Name
	Address string
	// Problem says what is wrong and what to do.
	Problem string
	Err     error
}

func (e *AddressError) Error() string {
	return fmt.Sprintf("%s at %s: %s", e.Part, e.Address, e.Problem)
}

func (e *AddressError) Unwrap() error { return e.Err }

// lastLine returns the last line of path that is not blank, looking only at
// what was written after offset, and at most at the last 4 KiB; "" if none.
// It is cut at 300 bytes.
func lastLine(path string, offset int64) string {
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
