package inproc

// Held is the number of entries that the bus keeps.
func (b *Bus) Held() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.leases) + len(b.tickets) + len(b.presence) + len(b.uses)
}
