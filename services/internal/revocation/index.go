package revocation

import (
	"time"

	"github.com/openova-io/bp-relay/services/internal/auth"
	"github.com/openova-io/bp-relay/services/internal/resource"
)

// index is the revocations of one moment by what they refuse. It never changes.
type index struct {
	subjects, tokens, logins map[key][]Revocation
	count                    map[string]int // by organisation
}

// key is an id in an organisation.
type key struct{ org, id string }

// rebuild makes the index from what is read and what is told, and then tells the
// watchers that are refused by it.
func (s *Set) rebuild() {
	x := &index{
		subjects: make(map[key][]Revocation), tokens: make(map[key][]Revocation), logins: make(map[key][]Revocation),
		count: make(map[string]int),
	}
	s.mu.Lock()
	for name, r := range s.read {
		x.add(resource.Org(name), r)
	}
	for name, r := range s.told {
		if _, known := s.read[name]; !known {
			x.add(resource.Org(name), r)
		}
	}
	s.index.Store(x) // before the lock ends: an older one must not replace it
	now := time.Now()
	var out []*watcher
	for w := range s.watchers {
		if x.refuses(w.who, now) {
			out = append(out, w)
		}
	}
	s.mu.Unlock()
	for _, w := range out {
		w.fire()
	}
}

func (x *index) add(org string, r Revocation) {
	x.count[org]++
	switch {
	case r.Subject != "":
		k := key{org, r.Subject}
		x.subjects[k] = append(x.subjects[k], r)
	case r.TokenID != "":
		k := key{org, r.TokenID}
		x.tokens[k] = append(x.tokens[k], r)
	case r.Login != "":
		k := key{org, r.Login}
		x.logins[k] = append(x.logins[k], r)
	}
}

// refuses reports whether the token of who is revoked at that time. Relay's own
// services cannot be.
func (x *index) refuses(who auth.Principal, now time.Time) bool {
	if who.Service || len(x.count) == 0 {
		return false
	}
	for _, by := range []struct {
		all map[key][]Revocation
		id  string
	}{{x.subjects, who.Subject}, {x.tokens, who.TokenID}, {x.logins, who.Login}} {
		if by.id == "" {
			continue
		}
		for _, r := range by.all[key{who.Org, by.id}] {
			spared := !r.IssuedBefore.IsZero() && who.Issued.After(r.IssuedBefore.Add(skew))
			if !spared && !r.expired(now) {
				return true
			}
		}
	}
	return false
}
