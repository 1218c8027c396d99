package part

import (
	"fmt"
	"strings"
)

// BuildError reports that a part could not be built or installed.
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

// MissingError reports that Debian packages are missing and that this user may
// not install them.
type MissingError struct {
	Part     Name
	Packages []string
}

func (e *MissingError) Error() string {
	return fmt.Sprintf("missing: %s: install it with: sudo apt-get install %s", e.Part, strings.Join(e.Packages, " "))
}
