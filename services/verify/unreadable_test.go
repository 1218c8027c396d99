package verify_test

import (
	"bytes"
	"fmt"
	"io"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/verify"
)

// TestABrokenDiskIsNoVerdict: a source that breaks off says nothing about the
// bag, also if its error wraps the end of a file.
func TestABrokenDiskIsNoVerdict(t *testing.T) {
	f := bags(t)
	for _, cause := range []error{io.EOF, io.ErrUnexpectedEOF} {
		broken := iotest.ErrReader(fmt.Errorf("the share is away: %w", cause))
		for n := 0; n < len(f.a); n += 1 + len(f.a)/150 {
			_, err := verify.Verify(t.Context(), verify.Config{Bag: "-", Stdin: io.MultiReader(bytes.NewReader(f.a[:n]), broken), Key: f.key})
			require.ErrorIs(t, err, verify.ErrUnreadable, "broken off after %d of %d bytes", n, len(f.a))
		}
	}
}
