package capture

import (
	"fmt"
	"sync"
)

// Quota divides the spool among organisations.
//
// Each organisation that records is sure of its share: others cannot take it. Over
// its share it may use what nobody else needs, up to an equal part of the spool
// per organisation that has a capture or bytes in it. Best-effort captures leave
// a percentage of all that to required ones, so that they are the first to state
// a gap: those of the organisation itself, and those of others.
type Quota struct {
	// Share is how many bytes an organisation is sure of; 0 is MaxSpool/100. An
	// organisation for which no share is left cannot open a capture.
	Share int64
	// Required is the percentage, of the spool and of each organisation's part,
	// that only required captures may use; 0 is 25.
	Required int
	// Orgs gives an organisation a fixed number of bytes: its share, which is kept
	// also while it records nothing, and at the same time the most that it may use.
	Orgs map[string]int64
}

// Cause is why the spool takes no more bytes of a capture.
type Cause string

// The causes.
const (
	// CauseOrg: the organisation uses all that it may.
	CauseOrg Cause = "organisation"
	// CauseSpool: what is free is kept for the shares of others, or for required
	// captures.
	CauseSpool Cause = "spool"
	// CauseShares: no share is left for one more organisation.
	CauseShares Cause = "shares"
	// CauseDisk: the file system is full, whatever the quota says.
	CauseDisk Cause = "disk"
)

// FullError is a refusal by the spool's quota. It is ErrSpoolFull.
type FullError struct {
	Org   string
	Mode  Mode
	Cause Cause
	// Used is how many bytes the organisation has in the spool, Limit how many a
	// capture of this mode could have there if nothing else stood in its way.
	Used, Limit int64
}

// Error satisfies error.
func (e *FullError) Error() string {
	return fmt.Sprintf("%v: %s capture of %s: %s: %d of at most %d bytes are used", ErrSpoolFull, e.Mode, e.Org, e.Cause, e.Used, e.Limit)
}

// Is reports that the error is ErrSpoolFull.
func (e *FullError) Is(target error) bool { return target == ErrSpoolFull }

// tenant is one organisation in the spool.
type tenant struct {
	captures             int // that are open, or not stored yet
	required, bestEffort int64
	fixed                bool // Quota.Orgs names it
}

func (t *tenant) used() int64 { return t.required + t.bestEffort }

// quota counts the bytes in the spool, and decides who may add some. It is safe
// for concurrent use.
//
// Its invariant: the sum, over the organisations, of the greater one of what an
// organisation uses and its share is at most total. So an append within a share
// is always right. Frames without data and encryption add without asking: a few
// KiB per segment.
type quota struct {
	total int64
	cfg   Quota

	mu   sync.Mutex
	orgs map[string]*tenant // those with captures or bytes, and the fixed ones
	// fixed is the sum of the fixed shares, equal how many organisations have none.
	fixed int64
	equal int
	// promised is the sum of the invariant; used and bestEffort are sums of bytes.
	promised, used, bestEffort int64
}

func newQuota(total int64, cfg Quota) (*quota, error) {
	if cfg.Share == 0 {
		cfg.Share = max(total/100, 1)
	}
	if cfg.Required == 0 {
		cfg.Required = 25
	}
	if total < 0 || cfg.Share < 0 || cfg.Share > total || cfg.Required < 0 || cfg.Required > 100 {
		return nil, fmt.Errorf("%w: spool of %d bytes, share of %d bytes, %d %% for required captures", ErrInvalid, total, cfg.Share, cfg.Required)
	}
	q := &quota{total: total, cfg: cfg, orgs: make(map[string]*tenant)}
	for org, share := range cfg.Orgs {
		if share <= 0 || share > total-q.fixed {
			return nil, fmt.Errorf("%w: the spool of %d bytes has no %d for %s; %d have been given to others", ErrInvalid, total, share, org, q.fixed)
		}
		q.orgs[org] = &tenant{fixed: true}
		q.fixed += share
	}
	q.promised = q.fixed
	return q, nil
}

// share is how many bytes the organisation is sure of.
func (q *quota) share(org string) int64 {
	if n, ok := q.cfg.Orgs[org]; ok {
		return n
	}
	return q.cfg.Share
}

// limit is the most that the organisation may use.
func (q *quota) limit(org string) int64 {
	if n, ok := q.cfg.Orgs[org]; ok {
		return n
	}
	return max(q.cfg.Share, (q.total-q.fixed)/int64(max(q.equal, 1)))
}

// forBestEffort is the part of n bytes that best-effort captures may use.
func (q *quota) forBestEffort(n int64) int64 { return n - n/100*int64(q.cfg.Required) }

// tenant returns the organisation's account, and makes it if there is none.
func (q *quota) tenant(org string) *tenant {
	t := q.orgs[org]
	if t == nil {
		t = &tenant{}
		q.orgs[org] = t
		q.equal++
		q.promised += q.cfg.Share
	}
	return t
}

// change adds n bytes to an account, without asking.
func (q *quota) change(org string, t *tenant, mode Mode, n int64) {
	share := q.share(org)
	before := max(t.used(), share)
	if mode == BestEffort {
		t.bestEffort += n
		q.bestEffort += n
	} else {
		t.required += n
	}
	q.used += n
	q.promised += max(t.used(), share) - before
	q.tidy(org, t)
}

// tidy drops an account that nobody needs.
func (q *quota) tidy(org string, t *tenant) {
	if !t.fixed && t.captures == 0 && t.used() == 0 {
		delete(q.orgs, org)
		q.equal--
		q.promised -= q.cfg.Share
	}
}

// fits returns why n more bytes cannot be added, or nil.
func (q *quota) fits(org string, t *tenant, mode Mode, n int64) error {
	used, share, limit := t.used(), q.share(org), q.limit(org)
	room := q.total - q.cfg.Share // so that one more organisation can open a capture
	if mode == BestEffort {
		limit, room = q.forBestEffort(limit), q.forBestEffort(q.total)
	}
	full := func(cause Cause) error {
		return &FullError{Org: org, Mode: mode, Cause: cause, Used: used, Limit: limit}
	}
	growth := max(used+n, share) - max(used, share)
	switch {
	case mode == BestEffort && q.bestEffort+n > room:
		return full(CauseSpool)
	case mode == Required && used+n <= share:
		return nil
	case used+n > limit:
		return full(CauseOrg)
	case growth > 0 && q.promised+growth > room:
		return full(CauseSpool)
	}
	return nil
}

// take adds n bytes, or returns a FullError.
func (q *quota) take(org string, mode Mode, n int64) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	t := q.tenant(org)
	if err := q.fits(org, t, mode, n); err != nil {
		q.tidy(org, t)
		return err
	}
	q.change(org, t, mode, n)
	return nil
}

// add adds n bytes without asking; n is negative if they have gone.
func (q *quota) add(org string, mode Mode, n int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.change(org, q.tenant(org), mode, n)
}

// admit returns a FullError if a capture that opens now would soon find no room:
// not even for one segment, or for its organisation's share. With enter, it counts
// the capture if it admits it.
func (q *quota) admit(org string, mode Mode, enter bool) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	t := q.tenant(org)
	defer q.tidy(org, t)
	if err := q.fits(org, t, mode, min(maxCipher, q.forBestEffort(q.share(org)))); err != nil {
		return err
	}
	// A new account has its share in promised already.
	if !t.fixed && t.captures == 0 && t.used() == 0 && q.promised > q.total {
		return &FullError{Org: org, Mode: mode, Cause: CauseShares, Limit: q.share(org)}
	}
	if enter {
		t.captures++
	}
	return nil
}

// enter counts a capture that is there, leave counts it out.
func (q *quota) enter(org string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.tenant(org).captures++
}

func (q *quota) leave(org string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	t := q.tenant(org)
	t.captures--
	q.tidy(org, t)
}

// OrgUsage is what one organisation has in the spool.
type OrgUsage struct {
	Captures             int
	Required, BestEffort int64 // bytes
	// Share is how many bytes it is sure of, Limit the most that it may use now.
	Share, Limit int64
}

// Usage is what the spool holds.
type Usage struct {
	// Total is the bound, Used what is in the spool, Promised what is used or kept
	// for the shares of organisations that record; in bytes.
	Total, Used, Promised int64
	Orgs                  map[string]OrgUsage
}

func (q *quota) usage() Usage {
	q.mu.Lock()
	defer q.mu.Unlock()
	u := Usage{Total: q.total, Used: q.used, Promised: q.promised, Orgs: make(map[string]OrgUsage, len(q.orgs))}
	for org, t := range q.orgs {
		u.Orgs[org] = OrgUsage{Captures: t.captures, Required: t.required, BestEffort: t.bestEffort, Share: q.share(org), Limit: q.limit(org)}
	}
	return u
}
