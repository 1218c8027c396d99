package replica

// SetForgetAfter sets how many heartbeats a replica that is gone is remembered.
func (r *Replica) SetForgetAfter(n int64) { r.forgetAfter = n }

// Known is how many other replicas this one remembers.
func (r *Replica) Known() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.others)
}
