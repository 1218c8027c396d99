package turn

import (
	"fmt"
	"slices"
	"strings"

	stnrv1 "github.com/l7mp/stunner/pkg/apis/v1"
)

// Impact is what a change does to the clients of a data plane.
type Impact struct {
	// Dropped are the listeners that restart or are removed: all their
	// allocations end.
	Dropped []string
	// Lapses: the credentials change, so the next refresh of each live
	// allocation is refused, at most 10 minutes later.
	Lapses bool
	// Cut are the endpoints that are no longer allowed: relaying to them stops
	// with the next packet.
	Cut []string
	// Changed is false if the configurations are equal.
	Changed bool
}

// Destructive reports whether media would stop for some client: such a change
// must be forced.
func (i Impact) Destructive() bool { return len(i.Dropped) > 0 || i.Lapses || len(i.Cut) > 0 }

// Classify compares two validated configurations by the rules of stunnerd
// v1.2.1 (reconcile.go and internal/object). A nil configuration means
// that the data plane has none.
//
//	realm, or authentication on or off        every listener restarts
//	listener protocol, address, port, pair    that listener restarts
//	listener removed                          that listener ends
//	credentials, authentication type          in place, live allocations lapse
//	cluster or endpoint removed, route lost   in place, those peers are cut
//	anything else                             in place
func Classify(old, next *stnrv1.StunnerConfig) Impact {
	if old == nil || next == nil {
		return Impact{Changed: old != next}
	}
	var i Impact
	was := *old
	was.Admin.Name = next.Admin.Name // it carries the version only
	i.Changed = !was.DeepEqual(next)
	none := stnrv1.AuthTypeNone.String()
	restartAll := old.Auth.Realm != next.Auth.Realm || (old.Auth.Type == none) != (next.Auth.Type == none)
	for _, l := range old.Listeners {
		n, err := next.GetListenerConfig(l.Name)
		if restartAll || err != nil || l.Protocol != n.Protocol || l.Addr != n.Addr || l.Port != n.Port || l.Cert != n.Cert || l.Key != n.Key {
			i.Dropped = append(i.Dropped, l.Name)
			continue
		}
		left := reachable(next, n.Routes)
		for _, e := range reachable(old, l.Routes) {
			if !covered(e, left) && !slices.Contains(i.Cut, e) {
				i.Cut = append(i.Cut, e)
			}
		}
	}
	i.Lapses = old.Auth.Type != next.Auth.Type || !old.Auth.DeepEqual(&stnrv1.AuthConfig{
		Type: old.Auth.Type, Realm: old.Auth.Realm, Credentials: next.Auth.Credentials,
	})
	return i
}

func reachable(c *stnrv1.StunnerConfig, routes []string) []string {
	var out []string
	for _, r := range routes {
		if cl, err := c.GetClusterConfig(r); err == nil {
			out = append(out, cl.Endpoints...)
		}
	}
	return out
}

// covered reports whether one of the others allows everything that endpoint e
// allows.
func covered(e string, others []string) bool {
	host, lo, hi := endpoint(e)
	return slices.ContainsFunc(others, func(o string) bool {
		h, l, u := endpoint(o)
		return o == e || (h == host && l <= lo && hi <= u)
	})
}

// endpoint splits "<address>:<min-max>"; without a range it means every port.
func endpoint(e string) (host string, lo, hi int) {
	if at := strings.LastIndex(e, ":<"); at >= 0 {
		if n, err := fmt.Sscanf(e[at:], ":<%d-%d>", &lo, &hi); n == 2 && err == nil {
			return e[:at], lo, hi
		}
	}
	return e, 1, 65535
}
