package revocation

import (
	"sync"

	"github.com/openova-io/bp-relay/services/internal/auth"
)

// watcher is one call, stream or session that ends when its token is revoked.
type watcher struct {
	who auth.Principal

	mu      sync.Mutex // guards revoked, and is held while it runs
	revoked func()     // nil after it has run, or after the end of the watch
}

func (w *watcher) fire() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.revoked != nil {
		w.revoked()
		w.revoked = nil
	}
}

// Watch calls revoked once as soon as the token of who is revoked, at once if it
// is already. revoked must not block, and must not call stop. After stop has
// returned, revoked does not run and will not.
func (s *Set) Watch(who auth.Principal, revoked func()) (stop func()) {
	w := &watcher{who: who, revoked: revoked}
	s.mu.Lock()
	s.watchers[w] = struct{}{}
	s.mu.Unlock()
	if s.Revoked(who) { // after it was added, so that none is missed
		w.fire()
	}
	return func() {
		s.mu.Lock()
		delete(s.watchers, w)
		s.mu.Unlock()
		w.mu.Lock()
		w.revoked = nil
		w.mu.Unlock()
	}
}
