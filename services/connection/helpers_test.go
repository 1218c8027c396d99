package connection_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/format/leaf"
	"github.com/openova-io/bp-relay/services/records"
)

func typeOf(t *testing.T, l records.Leaf) string {
	t.Helper()
	b, _, err := leaf.Open(l.Body, l.Opening)
	require.NoError(t, err)
	return b.Type
}

func (r *rig) leaves(subject string) []records.Leaf {
	r.t.Helper()
	l, err := r.records.Log().LeavesOf(r.t.Context(), "acme", subject, -1, 100)
	require.NoError(r.t, err)
	return l
}

func (r *rig) leafTypes(subject string) (out []string) {
	r.t.Helper()
	for _, l := range r.leaves(subject) {
		out = append(out, typeOf(r.t, l))
	}
	return out
}

// opening returns the opening of the subject's leaf of that type.
func (r *rig) opening(subject, kind string) string {
	r.t.Helper()
	for _, l := range r.leaves(subject) {
		if typeOf(r.t, l) == kind {
			return string(l.Opening)
		}
	}
	r.t.Fatalf("no leaf %s about %s", kind, subject)
	return ""
}

// serve puts another handler in front of p's service.
func (r *rig) serve(t *testing.T, p *process, h http.Handler) *process {
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	q := *p
	q.url = "ws" + strings.TrimPrefix(srv.URL, "http")
	return &q
}
