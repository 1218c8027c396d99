package redis

import (
	"context"
	"fmt"
	"log/slog"

	goredis "github.com/redis/go-redis/v9"
)

// LogTo sends go-redis's own log (failed dials, broken connections) to log at
// level debug; otherwise it goes to standard error as plain text. The setting
// is go-redis's and holds for the whole process: main calls LogTo once, before
// New.
func LogTo(log *slog.Logger) { goredis.SetLogger(logger{log}) }

type logger struct{ log *slog.Logger }

// Printf implements go-redis's logging interface.
func (l logger) Printf(ctx context.Context, format string, v ...any) {
	l.log.DebugContext(ctx, "go-redis", "text", fmt.Sprintf(format, v...), "component", "bus")
}
