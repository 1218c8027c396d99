package tracks

import (
	"context"
	"fmt"
	"log/slog"
	"reflect"

	"github.com/go-logr/logr"
	"github.com/livekit/protocol/logger"
	lksdk "github.com/livekit/server-sdk-go/v2"
)

// LogTo sends what LiveKit's SDK logs outside any room, mostly pion's state
// changes, to log, as is done with what it logs about a room. The SDK has one
// logger per process: call this once, before the first recorder.
func LogTo(log *slog.Logger) { lksdk.SetLogger(sdkLogger(log)) }

// sdkLogger writes the SDK's messages to l, one level lower: what the SDK calls
// an error is a failed attempt that it repeats.
func sdkLogger(l *slog.Logger) logger.Logger {
	return logger.LogRLogger(logr.FromSlogHandler(lower{l.With("part", "livekit-sdk").Handler()}))
}

// lower is a handler that lowers every record by one level and omits structured
// values: the SDK logs its parameters, which include the join token and the TURN
// servers' passwords.
type lower struct{ slog.Handler }

func (h lower) Enabled(ctx context.Context, level slog.Level) bool {
	return h.Handler.Enabled(ctx, level-4)
}

func (h lower) Handle(ctx context.Context, r slog.Record) error {
	plain := slog.NewRecord(r.Time, r.Level-4, r.Message, r.PC) // 4 is the distance between two levels
	r.Attrs(func(a slog.Attr) bool {
		plain.AddAttrs(simple(a))
		return true
	})
	return h.Handler.Handle(ctx, plain)
}

func (h lower) WithAttrs(attrs []slog.Attr) slog.Handler {
	kept := make([]slog.Attr, len(attrs))
	for i, a := range attrs {
		kept[i] = simple(a)
	}
	return lower{h.Handler.WithAttrs(kept)}
}

func (h lower) WithGroup(name string) slog.Handler { return lower{h.Handler.WithGroup(name)} }

// simple returns the attribute, or one with only the name of its value's type.
func simple(a slog.Attr) slog.Attr {
	switch a.Value.Kind() {
	case slog.KindAny:
	case slog.KindGroup, slog.KindLogValuer:
		return slog.String(a.Key, a.Value.Kind().String())
	default:
		return a
	}
	v := a.Value.Any()
	if _, is := v.(error); is || v == nil {
		return a
	}
	switch reflect.TypeOf(v).Kind() {
	case reflect.Bool, reflect.String, reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Float32, reflect.Float64:
		return a
	default:
		return slog.String(a.Key, fmt.Sprintf("(%T)", v))
	}
}
