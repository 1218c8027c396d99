package capture

// SetHook has fn called at the named points; an error ends what is being done
// there.
func (c *Config) SetHook(fn func(point string) error) { c.hook = fn }

// ErrHook from a hook leaves everything as a death of the process there would.
var ErrHook = errHook

// SpoolUsed is the counted bytes in the spool.
func (m *Manager) SpoolUsed() int64 { return m.used.Load() }

// SetMaxObject splits manifests that are longer.
func (c *Config) SetMaxObject(n int) { c.maxObject = n }
