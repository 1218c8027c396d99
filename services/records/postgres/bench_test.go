package postgres_test

import (
	"testing"

	"github.com/openova-io/bp-relay/services/records/recordstest"
)

func BenchmarkLeafAppend(b *testing.B) {
	recordstest.BenchLeafAppend(b, open(b, database(b, shared.Postgres(b))))
}

func BenchmarkMutation(b *testing.B) {
	recordstest.BenchMutation(b, open(b, database(b, shared.Postgres(b))))
}

func BenchmarkGet(b *testing.B) { recordstest.BenchGet(b, open(b, database(b, shared.Postgres(b)))) }

func BenchmarkGrow(b *testing.B) { recordstest.BenchGrow(b, open(b, database(b, shared.Postgres(b)))) }
