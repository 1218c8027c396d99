package redis_test

import (
	"testing"

	"github.com/openova-io/bp-relay/services/bus"
	"github.com/openova-io/bp-relay/services/bus/bustest"
)

func BenchmarkBus(b *testing.B) {
	s := startServer(b)
	bustest.Bench(b, func() bus.Bus { return s.open(b) })
}
