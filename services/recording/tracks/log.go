package tracks

import (
	"log/slog"

	lksdk "github.com/livekit/server-sdk-go/v2"
)

// LogTo sends what LiveKit's SDK logs by itself, outside any room (pion's
// state changes above all), to log, like what it logs about a room. The SDK
// has one logger per process, so a process calls this once, before its first
// recorder.
func LogTo(log *slog.Logger) { lksdk.SetLogger(sdkLogger(log)) }
