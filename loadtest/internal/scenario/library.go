package scenario

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"slices"
	"strings"
)

//go:embed library/*.yaml
var library embed.FS

// ErrUnknown is returned for a name that the library does not have.
var ErrUnknown = errors.New("no such scenario")

// Library returns the names of the ready-made scenarios, in order.
func Library() []string {
	files, err := library.ReadDir("library")
	if err != nil {
		panic(err) // it is embedded
	}
	out := make([]string, 0, len(files))
	for _, f := range files {
		out = append(out, strings.TrimSuffix(f.Name(), ".yaml"))
	}
	slices.Sort(out)
	return out
}

// Source returns the text of a ready-made scenario with its comments, to start a
// new one from. It returns ErrUnknown for an unknown name.
func Source(name string) ([]byte, error) {
	text, err := library.ReadFile("library/" + name + ".yaml")
	if err != nil {
		return nil, fmt.Errorf("%w: %q; there are %s", ErrUnknown, name, strings.Join(Library(), ", "))
	}
	return text, nil
}

// Named returns a ready-made scenario with its defaults. It returns ErrUnknown for
// an unknown name.
func Named(name string) (*Scenario, error) {
	text, err := Source(name)
	if err != nil {
		return nil, err
	}
	return Parse(name+".yaml", bytes.NewReader(text))
}

// About returns the first sentence of a ready-made scenario's comments, "" for an
// unknown name.
func About(name string) string {
	text, err := Source(name)
	if err != nil {
		return ""
	}
	var words []string
	for line := range strings.Lines(string(text)) {
		line, comment := strings.CutPrefix(strings.TrimSpace(line), "#")
		if !comment {
			break
		}
		words = append(words, strings.Fields(line)...)
		if strings.HasSuffix(line, ".") {
			break
		}
	}
	about, _, _ := strings.Cut(strings.Join(words, " "), ". ")
	return strings.TrimSuffix(about, ".")
}
