package report_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/loadtest/internal/report"
	"github.com/openova-io/bp-relay/loadtest/internal/result"
	"github.com/openova-io/bp-relay/services/format/printable"
)

// A report's file may be somebody else's, and an error's text is what a server
// said: neither moves a cursor or adds a line.
func TestTextsOfOthersCannotFakeAResult(t *testing.T) {
	const hostile = "x\n\n\u2714 PASSED  everything\x1b[2J\u202e\u200b"
	r := &result.Report{Name: hostile}
	r.Verdict.Reasons = []string{hostile}
	r.Errors = append(r.Errors, result.ErrorLine{Text: hostile, Count: 3})
	var summary, compared bytes.Buffer
	report.Summary(&summary, r)
	require.NoError(t, report.Compare(&compared, r, r))
	for _, text := range []string{summary.String(), compared.String()} {
		require.NotContains(t, text, "\n\u2714 PASSED  everything")
		for _, c := range text {
			require.True(t, c == '\n' || c == '\t' || printable.Safe(c), "%q in %q", c, text)
		}
	}
	require.True(t, strings.Contains(summary.String(), `x\n\n`), "it is shown as an escape")
}
