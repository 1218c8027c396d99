package postgres_test

import (
	"testing"

	"github.com/openova-io/bp-relay/services/store/storetest"
)

func BenchmarkLeafAppend(b *testing.B) { storetest.BenchLeafAppend(b, open(b, pg.url(pg.database(b)))) }

func BenchmarkMutation(b *testing.B) { storetest.BenchMutation(b, open(b, pg.url(pg.database(b)))) }

func BenchmarkGet(b *testing.B) { storetest.BenchGet(b, open(b, pg.url(pg.database(b)))) }
