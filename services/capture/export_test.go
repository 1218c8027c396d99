package capture

// SetHook makes the manager call fn at named points; an error stops the work
// there.
func (c *Config) SetHook(fn func(point string) error) { c.hook = fn }

// ErrHook from a hook leaves everything as a crash at that point would.
var ErrHook = errHook

// SpoolUsed is the number of bytes counted in the spool.
func (m *Manager) SpoolUsed() int64 { return m.Usage().Used }

// SetMaxObject splits manifests that are longer than n bytes.
func (c *Config) SetMaxObject(n int) { c.maxObject = n }

// Dirty reports whether anything that was appended is not flushed yet.
func (s *Stream) Dirty() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.queue {
		if f.cipherPath == "" && f.dirty.Load() {
			return true
		}
	}
	return s.cur != nil && s.cur.dirty.Load()
}
