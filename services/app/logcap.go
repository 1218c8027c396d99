package app

import (
	"fmt"
	"log/slog"
	"strconv"
	"unicode/utf8"
)

// Bounds of one log attribute, in bytes: much of what is logged was sent by
// somebody else, and a log line must not grow with it.
const (
	maxLogValue = 1 << 10
	maxLogStack = 16 << 10 // the stack of a panic
	maxLogKey   = 64
)

// capped shortens an attribute's key and value; it is slog's ReplaceAttr. A
// value that is cut says how long it was.
func capped(_ []string, a slog.Attr) slog.Attr {
	if len(a.Key) > maxLogKey {
		a.Key = cut(a.Key, maxLogKey)
	}
	limit := maxLogValue
	if a.Key == "stack" {
		limit = maxLogStack
	}
	switch a.Value.Kind() {
	case slog.KindString:
		if s := a.Value.String(); len(s) > limit {
			a.Value = slog.StringValue(cut(s, limit))
		}
	case slog.KindAny:
		var text string
		switch v := a.Value.Any().(type) {
		case nil, *slog.Source:
			return a
		case error:
			text = v.Error()
		case []byte:
			text = string(v[:min(len(v), limit+1)])
		default:
			text = fmt.Sprint(v)
		}
		if len(text) > limit {
			a.Value = slog.StringValue(cut(text, limit))
		}
	}
	return a
}

// cut returns the first limit bytes of s, up to a whole character, and says how
// long s was.
func cut(s string, limit int) string {
	for range utf8.UTFMax - 1 {
		if limit > 0 && !utf8.RuneStart(s[limit]) {
			limit--
		}
	}
	return s[:limit] + "... (" + strconv.Itoa(len(s)) + " bytes)"
}
