package inproc

// Held is how many things the bus remembers.
func (b *Bus) Held() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.leases) + len(b.tickets) + len(b.presence) + len(b.uses)
}
