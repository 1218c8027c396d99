package guacd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/openova-io/bp-relay/services/connection/engine"
	"github.com/openova-io/bp-relay/services/connection/guac"
	"github.com/openova-io/bp-relay/services/connection/internal/sshprobe"
)

// Opening is a session's time until its first frame, which guacd draws when the
// target's shell has begun. Until then the browser is sent nothing, so that all
// failures to reach a target look alike: a person who may define connections
// cannot find out what listens where.
type Opening struct {
	// Began is when the session began.
	Began time.Time
	// FirstFrame is how long after Began the first frame must have come.
	FirstFrame time.Duration
	// Answer is how long after Began every failure to reach the target is told:
	// not earlier, so that the time tells nothing either.
	Answer time.Duration
	// Failed, if set, is why the target cannot be reached: guacd was not asked.
	Failed error
	// Ask, if set, asks the target itself which algorithms it offers, if guacd does
	// not get on with it. Its error wraps sshprobe.ErrSilent.
	Ask func(context.Context) (sshprobe.Algorithms, error)
	// Offers are those of this guacd.
	Offers sshprobe.Algorithms
	// HostKey is the type of the host key in the definition: "ssh-ed25519"; "" if
	// none is checked.
	HostKey string
}

// begun reports whether there was a first frame.
func (s *Session) begun() bool {
	select {
	case <-s.frame:
		return true
	default:
		return false
	}
}

// firstFrame ends the opening and sends what was held back.
func (s *Session) firstFrame(ctx context.Context) (end *engine.End) {
	s.first.Do(func() {
		close(s.frame)
		end = s.out.begin(ctx)
	})
	return end
}

// awaitFirstFrame ends the session if no first frame comes. failed is closed when
// guacd's output has ended: opened then says why.
func (s *Session) awaitFirstFrame(ctx context.Context, cancel context.CancelCauseFunc, failed <-chan struct{}) {
	o := s.Opening
	if o == nil || o.Failed != nil {
		return
	}
	wait := func(d time.Duration) (over bool) {
		t := time.NewTimer(time.Until(o.Began.Add(d)))
		defer t.Stop()
		select {
		case <-ctx.Done():
		case <-failed:
		case <-s.frame:
		case <-t.C:
			return false
		}
		return true
	}
	end := unreachable(errors.New("no first frame in time"))
	if o.Ask != nil {
		if wait(o.Answer / 2) {
			return
		}
		if _, err := s.ask(ctx); err != nil {
			if !wait(o.Answer) {
				cancel(unreachable(err))
			}
			return
		}
		end = &engine.End{Reason: engine.TargetSilent, Status: guac.UpstreamTimeout, Err: end.Err,
			Message: "The target accepted the connection, but its shell did not begin in time. Ask its owner whether it is overloaded, or try again."}
	}
	if !wait(o.FirstFrame) {
		cancel(end)
	}
}

// ask asks the target, at the latest until the time for answers.
func (s *Session) ask(ctx context.Context) (sshprobe.Algorithms, error) {
	end := s.Opening.Began.Add(s.Opening.Answer)
	if least := time.Now().Add(s.Opening.Answer / 2); end.Before(least) {
		end = least
	}
	ctx, cancel := context.WithDeadline(ctx, end)
	defer cancel()
	return s.Opening.Ask(ctx)
}

// opened returns how a session ends whose guacd's output ended with end. Before
// the first frame that is the target's fault or guacd's: it finds out which, and
// waits before it says that the target cannot be reached.
func (s *Session) opened(ctx context.Context, end *engine.End) *engine.End {
	o := s.Opening
	if o == nil || s.begun() || ctx.Err() != nil {
		return end
	}
	switch end.Reason {
	case engine.TargetError, engine.Crashed, engine.TargetClosed:
	default:
		return end
	}
	end = s.explain(ctx, end)
	if end.Reason == engine.Unreachable {
		until := o.Began.Add(o.Answer)
		if o.Ask == nil && o.Failed == nil {
			until = o.Began.Add(o.FirstFrame) // as if nothing had answered at all
		}
		t := time.NewTimer(time.Until(until))
		defer t.Stop()
		select {
		case <-ctx.Done():
		case <-t.C:
		}
	}
	return end
}

// explain returns why a session ended before its first frame.
func (s *Session) explain(ctx context.Context, end *engine.End) *engine.End {
	o := s.Opening
	if o.Failed != nil {
		return unreachable(o.Failed)
	}
	status, _ := end.Status.(guac.Status)
	if status == guac.UpstreamNotFound || status == guac.UpstreamUnavailable || status == guac.UpstreamTimeout {
		return unreachable(end.Err)
	}
	if o.Ask == nil {
		if status == guac.UpstreamError || end.Reason == engine.TargetClosed {
			return unreachable(end.Err)
		}
		return worded(end, status)
	}
	theirs, err := s.ask(ctx)
	if err != nil {
		return unreachable(errors.Join(end.Err, err))
	}
	if asks := asked(o.Offers.HostKey, theirs.HostKey); status == guac.ServerError && asks != "" && o.HostKey != "" && keyType(asks) != o.HostKey {
		end.Message = fmt.Sprintf("guacd asks this target for its %s key, and the connection's definition has its %s key, so that it cannot be compared. "+
			"Give the key of that type: ssh-keyscan -t %s HOST.", keyType(asks), o.HostKey, scanned(keyType(asks)))
		return end
	}
	if status == guac.ClientUnauthorized || status == guac.ServerError {
		return worded(end, status) // after the exchange of keys
	}
	if kind, ours, theirs := o.Offers.Missing(theirs); kind != "" {
		return &engine.End{Reason: engine.TargetError, Status: guac.Unsupported, Err: fmt.Errorf("no common %s: %w", kind, end.Err),
			Message: fmt.Sprintf("The target and this relay's guacd have no %s in common. guacd offers: %s. The target offers: %s. "+
				"Allow one of guacd's at the target, or ask the operator for a newer guacd.", kind, some(ours), some(theirs))}
	}
	return worded(end, status)
}

// asked is the algorithm by which a server shows its host key: the client's first
// one that the server has, too (RFC 4253 §7.1). "" if there is none.
func asked(client, server []string) string {
	for _, a := range client {
		if slices.Contains(server, a) {
			return a
		}
	}
	return ""
}

// keyType is the type of the key that an algorithm shows (RFC 8332 §3: an RSA key
// is called ssh-rsa whatever it signs with).
func keyType(algorithm string) string {
	if strings.HasPrefix(algorithm, "rsa-sha2-") {
		return "ssh-rsa"
	}
	return algorithm
}

// scanned is what ssh-keyscan calls a type of key.
func scanned(keyType string) string {
	kind, _, _ := strings.Cut(strings.TrimPrefix(keyType, "ssh-"), "-")
	return strings.TrimSuffix(kind, "2")
}

// worded says in words what guacd says by a status: its own message is "Aborted.
// See logs." for everything.
func worded(end *engine.End, status guac.Status) *engine.End {
	switch {
	case end.Reason == engine.Crashed:
		return end
	case status == guac.ClientUnauthorized, status == guac.ClientForbidden:
		end.Message = "The target refused the connection's credentials. If they are right, the target may refuse how guacd signs: " +
			"guacd 1.3 signs with ssh-rsa (SHA-1), which OpenSSH allows only by PubkeyAcceptedAlgorithms +ssh-rsa."
	case status == guac.ServerError:
		end.Message = "The target showed another host key than the connection's definition has, or none that could be checked. " +
			"Nothing was sent to it. Compare its key with the definition."
	default:
		end.Message = "The target ended the connection before its shell began. Ask its owner to look into its log."
	}
	return end
}

// unreachable is the one answer for all failures to reach a target. err is for the
// operator's log.
func unreachable(err error) *engine.End {
	return &engine.End{Reason: engine.Unreachable, Status: guac.UpstreamNotFound, Err: err,
		Message: "The target cannot be reached. Check its name and port, and ask the operator whether its address is allowed."}
}

// some is a list of names for a sentence, at most a dozen of them.
func some(names []string) string {
	const most = 12
	if len(names) > most {
		return strings.Join(names[:most], ", ") + " and others"
	}
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}
