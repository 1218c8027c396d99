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

// ErrUnknown is the answer to a name that is none of the library's.
var ErrUnknown = errors.New("no such scenario")

// Library are the names of the ready scenarios, in order.
func Library() []string {
	files, err := library.ReadDir("library")
	if err != nil {
		panic(err) // it is compiled in
	}
	out := make([]string, 0, len(files))
	for _, f := range files {
		out = append(out, strings.TrimSuffix(f.Name(), ".yaml"))
	}
	slices.Sort(out)
	return out
}

// Source is the text of a ready scenario, with the comments that explain it: a
// file to begin one's own with. ErrUnknown if there is none of the name.
func Source(name string) ([]byte, error) {
	text, err := library.ReadFile("library/" + name + ".yaml")
	if err != nil {
		return nil, fmt.Errorf("%w: %q; there is %s", ErrUnknown, name, strings.Join(Library(), ", "))
	}
	return text, nil
}

// Named is a ready scenario, with its defaults. ErrUnknown if there is none of
// the name.
func Named(name string) (*Scenario, error) {
	text, err := Source(name)
	if err != nil {
		return nil, err
	}
	return Parse(name+".yaml", bytes.NewReader(text))
}

// About is the first sentence of a ready scenario's comments, "" if there is
// none of the name.
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
