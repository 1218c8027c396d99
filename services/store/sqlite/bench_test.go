package sqlite_test

import (
	"path/filepath"
	"testing"

	"github.com/openova-io/bp-relay/services/store/storetest"
)

func BenchmarkLeafAppend(b *testing.B) {
	storetest.BenchLeafAppend(b, open(b, filepath.Join(b.TempDir(), "relay.db")))
}

func BenchmarkMutation(b *testing.B) {
	storetest.BenchMutation(b, open(b, filepath.Join(b.TempDir(), "relay.db")))
}

func BenchmarkGet(b *testing.B) {
	storetest.BenchGet(b, open(b, filepath.Join(b.TempDir(), "relay.db")))
}

func BenchmarkGrow(b *testing.B) {
	storetest.BenchGrow(b, open(b, filepath.Join(b.TempDir(), "relay.db")))
}
