package capture

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// flushForever flushes the spool until ctx ends: the durability point. Each
// organisation is flushed by itself, so that one whose bytes take the disk long
// makes no other one wait.
func (m *Manager) flushForever(ctx context.Context) error {
	var lanes sync.WaitGroup
	defer lanes.Wait()
	var busy sync.Map // organisations that are being flushed
	return every(ctx, syncEvery, func(ctx context.Context) {
		for org, captures := range m.byOrg() {
			if _, is := busy.LoadOrStore(org, true); is {
				continue
			}
			lanes.Go(func() {
				defer busy.Delete(org)
				flush(ctx, captures)
			})
		}
	})
}

func (m *Manager) byOrg() map[string][]*Capture {
	orgs := make(map[string][]*Capture)
	for _, c := range m.snapshot() {
		orgs[c.org] = append(orgs[c.org], c)
	}
	return orgs
}

// flush syncs every file of these captures that was written to. It also cuts
// segments that have reached maxAge.
func flush(ctx context.Context, captures []*Capture) {
	var g errgroup.Group
	g.SetLimit(8) // concurrent syncs share a commit of the file system's journal
	now := time.Now()
	for _, c := range captures {
		for _, s := range c.Streams() {
			s.cutOld(now)
			g.Go(func() error {
				if err := s.flush(); err != nil {
					s.c.diskFailed(ctx, s, err)
				}
				return nil
			})
		}
	}
	_ = g.Wait() // errors are handled above
}
