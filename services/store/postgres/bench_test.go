package postgres_test

import (
	"testing"

	"github.com/openova-io/bp-relay/services/store/storetest"
)

func BenchmarkLeafAppend(b *testing.B) {
	storetest.BenchLeafAppend(b, open(b, database(b, shared.Postgres(b))))
}

func BenchmarkMutation(b *testing.B) {
	storetest.BenchMutation(b, open(b, database(b, shared.Postgres(b))))
}

func BenchmarkGet(b *testing.B) { storetest.BenchGet(b, open(b, database(b, shared.Postgres(b)))) }

func BenchmarkGrow(b *testing.B) { storetest.BenchGrow(b, open(b, database(b, shared.Postgres(b)))) }
