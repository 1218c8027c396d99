package inproc_test

import (
	"testing"

	"github.com/openova-io/bp-relay/services/bus"
	"github.com/openova-io/bp-relay/services/bus/bustest"
	"github.com/openova-io/bp-relay/services/bus/inproc"
)

func BenchmarkBus(b *testing.B) {
	live := inproc.New()
	defer live.Close()
	bustest.Bench(b, func() bus.Bus { return live })
}
