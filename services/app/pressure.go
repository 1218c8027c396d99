package app

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/openova-io/bp-relay/services/capture"
)

// pressed is the percentage from which a spool, or an organisation's part of it,
// is nearly full.
const pressed = 80

// pressure says who fills the spool, for /readyz: nil unless it, or an
// organisation's part of it, is nearly full. It is no reason to be unready: whatever
// has room goes on. Organisations are named here because the admin address is the
// operator's; metrics do not name them.
func pressure(u capture.Usage) error {
	near := func(used, limit int64) bool { return used > limit/100*pressed }
	type part struct {
		org string
		capture.OrgUsage
	}
	full := near(u.Used, u.Total)
	var parts []part
	for org, o := range u.Orgs {
		if used := o.Required + o.BestEffort; used > 0 && (full || near(used, o.Limit)) {
			parts = append(parts, part{org, o})
		}
	}
	if !full && len(parts) == 0 {
		return nil
	}
	slices.SortFunc(parts, func(a, b part) int {
		return cmp.Or(cmp.Compare(b.Required+b.BestEffort, a.Required+a.BestEffort), cmp.Compare(a.org, b.org))
	})
	var most []string
	for _, p := range parts[:min(len(parts), 5)] {
		most = append(most, fmt.Sprintf("%s %d required and %d best_effort of at most %d", p.org, p.Required, p.BestEffort, p.Limit))
	}
	return fmt.Errorf("nearly full: %d of %d bytes are used; most by: %s", u.Used, u.Total, strings.Join(most, "; "))
}
