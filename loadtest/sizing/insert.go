package sizing

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// ErrMarkers: a document whose markers are not as Insert needs them.
var ErrMarkers = errors.New("sizing: markers")

func markers(name string) (begin, end string) {
	return "<!-- sizing: " + name + " begin -->", "<!-- sizing: " + name + " end -->"
}

// Insert puts each fragment between its two markers, which are comments on
// lines of their own:
//
//	<!-- sizing: NAME begin -->
//	<!-- sizing: NAME end -->
//
// What was between them is replaced, all else is kept. Every fragment has to
// have its place exactly once; else the error is ErrMarkers, names all that are
// missing, and nothing is inserted.
func Insert(doc string, fragments map[string]string) (string, error) {
	var wrong []string
	out := doc
	for _, name := range slices.Sorted(maps.Keys(fragments)) {
		begin, end := markers(name)
		if strings.Count(doc, begin) != 1 || strings.Count(doc, end) != 1 {
			wrong = append(wrong, fmt.Sprintf("%s and %s are wanted once each", begin, end))
			continue
		}
		before, rest, _ := strings.Cut(out, begin)
		_, after, found := strings.Cut(rest, end)
		if !found {
			wrong = append(wrong, fmt.Sprintf("%s stands before %s, or in another fragment", end, begin))
			continue
		}
		out = before + begin + "\n" + strings.TrimSpace(fragments[name]) + "\n" + end + after
	}
	if len(wrong) > 0 {
		return "", fmt.Errorf("%w: %s", ErrMarkers, strings.Join(wrong, "; "))
	}
	// A fragment's place inside of another one's is lost with it.
	for name := range fragments {
		if begin, _ := markers(name); strings.Count(out, begin) != 1 {
			return "", fmt.Errorf("%w: %s stands inside of another fragment", ErrMarkers, begin)
		}
	}
	return out, nil
}
