package capture

import (
	"cmp"
	"context"
	"slices"
)

// Holds reports whether the spool of an unsealed capture is on this host. It
// returns false until recovery is complete. Sealing a capture whose spool is on
// another host gives up what that spool holds.
func (m *Manager) Holds(name string) bool {
	select {
	case <-m.ready:
	default:
		return false
	}
	if c := m.local(name); c != nil {
		return c.dir != ""
	}
	return m.stillThere(name) != nil
}

// Orphans lists the captures that an earlier process left in this spool and
// that are neither resumed nor being sealed. It waits until recovery is
// complete.
func (m *Manager) Orphans(ctx context.Context) ([]Info, error) {
	if err := m.waitReady(ctx); err != nil {
		return nil, err
	}
	var infos []Info
	for _, c := range m.snapshot() {
		c.mu.Lock()
		left := c.orphan && !c.sealing
		c.mu.Unlock()
		if !left {
			continue
		}
		info, err := m.Get(ctx, c.name)
		if err != nil {
			return nil, err
		}
		infos = append(infos, info)
	}
	slices.SortFunc(infos, func(a, b Info) int { return cmp.Compare(a.Name, b.Name) })
	return infos, nil
}
