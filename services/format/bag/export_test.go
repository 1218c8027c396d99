package bag

import (
	"context"

	"github.com/openova-io/bp-relay/services/format/manifest"
)

// Tries reads n segments with the same function and returns what is wrong with
// each.
func Tries(ctx context.Context, n int, fatal func(error) bool, fn func() error) ([]string, error) {
	d := newDamages(Input{Fatal: fatal, Manifest: manifest.Manifest{Streams: []manifest.StreamManifest{{Count: n}}}})
	var out []string
	for range n {
		why, err := d.try(ctx, fn)
		if err != nil {
			return nil, err
		}
		out = append(out, why)
	}
	return out, nil
}
