package sizing

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// ErrMarkers is returned for a document without the markers that Insert needs.
var ErrMarkers = errors.New("sizing: markers")

func markers(name string) (begin, end string) {
	return "<!-- sizing: " + name + " begin -->", "<!-- sizing: " + name + " end -->"
}

// Insert puts each fragment between its two markers, which are comments on lines
// of their own:
//
//	<!-- sizing: NAME begin -->
//	<!-- sizing: NAME end -->
//
// It replaces the text between the markers and keeps everything else. Each
// fragment must have its markers exactly once; otherwise Insert changes nothing
// and returns ErrMarkers, which names every missing one.
func Insert(doc string, fragments map[string]string) (string, error) {
	var wrong []string
	out := doc
	for _, name := range slices.Sorted(maps.Keys(fragments)) {
		begin, end := markers(name)
		if strings.Count(doc, begin) != 1 || strings.Count(doc, end) != 1 {
			wrong = append(wrong, fmt.Sprintf("%s and %s must occur once each", begin, end))
			continue
		}
		before, rest, _ := strings.Cut(out, begin)
		_, after, found := strings.Cut(rest, end)
		if !found {
			wrong = append(wrong, fmt.Sprintf("%s is before %s, or in another fragment", end, begin))
			continue
		}
		out = before + begin + "\n" + strings.TrimSpace(fragments[name]) + "\n" + end + after
	}
	if len(wrong) > 0 {
		return "", fmt.Errorf("%w: %s", ErrMarkers, strings.Join(wrong, "; "))
	}
	// A fragment inside another one's markers would be replaced with it.
	for name := range fragments {
		if begin, _ := markers(name); strings.Count(out, begin) != 1 {
			return "", fmt.Errorf("%w: %s is inside another fragment", ErrMarkers, begin)
		}
	}
	return out, nil
}
