package sqlite_test

import (
	"path/filepath"
	"testing"

	"github.com/openova-io/bp-relay/services/records/recordstest"
)

func BenchmarkLeafAppend(b *testing.B) {
	recordstest.BenchLeafAppend(b, open(b, filepath.Join(b.TempDir(), "relay.db")))
}

func BenchmarkMutation(b *testing.B) {
	recordstest.BenchMutation(b, open(b, filepath.Join(b.TempDir(), "relay.db")))
}

func BenchmarkGet(b *testing.B) {
	recordstest.BenchGet(b, open(b, filepath.Join(b.TempDir(), "relay.db")))
}

func BenchmarkGrow(b *testing.B) {
	recordstest.BenchGrow(b, open(b, filepath.Join(b.TempDir(), "relay.db")))
}
