package tunnel

import (
	"errors"
	"fmt"
	"time"

	"github.com/openova-io/bp-relay/services/connection/guac"
)

// chunk is the most that one message to the browser carries. It must hold a
// whole instruction beside a cut one: at least 2 * guac.MaxInstruction.
const chunk = 64 << 10

// maxRequired is how often guacd may ask for parameters in one session.
const maxRequired = 8

// down carries guacd's output to the browser.
type down struct {
	s        *Session
	scan     guac.Scanner
	buf      []byte // headroom, then chunk bytes
	failed   *guac.StatusError
	required int
	sent     int64
	marked   time.Time // when Clock was last told
	broken   bool      // a best-effort recorder has failed
}

func newDown(s *Session) *down {
	return &down{s: s, buf: make([]byte, headroom+chunk)}
}

// run returns why the output ended. Each byte is scanned once, sent from
// where it was read, and copied only when it belongs to an instruction that
// is not complete yet.
func (d *down) run() *End {
	body := d.buf[headroom:]
	have := copy(body, d.s.Opened.Rest)
	scanned := 0
	for {
		done, end := d.pass(body[:have], &scanned)
		if end != nil {
			return end
		}
		have = copy(body, body[done:have])
		scanned = have
		d.s.reads.arm()
		n, err := d.s.Guacd.Read(body[have:])
		if n == 0 && err != nil {
			return d.over(err)
		}
		have += n
	}
}

// pass sends on the complete instructions of p, of which the first scanned
// bytes have been looked at, and returns how many bytes it is done with.
func (d *down) pass(p []byte, scanned *int) (int, *End) {
	from, complete := 0, 0
	for *scanned < len(p) {
		n, done, err := d.scan.Next(p[*scanned:])
		*scanned += n
		if err != nil {
			if end := d.send(from, complete); end != nil {
				return 0, end
			}
			return 0, &End{Reason: TargetViolation, Status: guac.ServerError, Message: "The remote desktop service broke the protocol.", Err: err}
		}
		if !done {
			break
		}
		raw := p[complete:*scanned]
		pass, end := d.see(raw)
		if end != nil || !pass {
			until := complete
			if pass {
				until = *scanned
			}
			if end := d.send(from, until); end != nil {
				return 0, end
			}
			from = *scanned
		}
		if end != nil {
			return 0, end
		}
		complete = *scanned
	}
	return complete, d.send(from, complete)
}

// see looks at one instruction: pass says whether the browser gets it, and
// end whether the session is over after it.
func (d *down) see(raw []byte) (pass bool, end *End) {
	switch guac.See(raw) {
	case guac.Sync:
		if ts, ok := guac.SyncTime(raw); ok {
			// Before the browser has it: its answer may come at once.
			d.s.newest.Store(ts)
			d.clock(ts)
		}
	case guac.Failed:
		var in guac.Instruction
		if err := in.Parse(raw); err == nil {
			d.failed = guac.AsStatusError(&in)
		}
	case guac.Gone:
		return true, d.ended()
	case guac.Ack:
		return !d.ours(raw), nil
	case guac.Required:
		return false, d.answer(raw)
	case guac.Foreign:
		return false, &End{Reason: TargetViolation, Status: guac.ServerError, Message: "The remote desktop service broke the protocol.", Err: errors.New("an instruction that guacd never sends")}
	}
	return true, nil
}

func (d *down) clock(ts int64) {
	if d.s.Clock == nil {
		return
	}
	if now := time.Now(); now.Sub(d.marked) >= 30*time.Second {
		d.marked = now
		d.s.Clock(ts, now)
	}
}

// ours says whether an ack is for one of the broker's own streams.
func (d *down) ours(raw []byte) bool {
	var in guac.Instruction
	if in.Parse(raw) != nil {
		return false
	}
	v, ok := guac.Int(in.Arg(0))
	return ok && v >= reserved
}

// answer gives guacd the parameters it waits for. The browser is not asked:
// what the definition does not have, nobody sends.
func (d *down) answer(raw []byte) *End {
	var in guac.Instruction
	if err := in.Parse(raw); err != nil {
		return &End{Reason: TargetViolation, Status: guac.ServerError, Err: err}
	}
	if d.required++; d.required > maxRequired {
		return &End{Reason: TargetError, Status: guac.ClientUnauthorized, Message: "The target refused the connection's credentials."}
	}
	for i, name := range in.Strings() {
		value, has := d.s.Params[name]
		if !has || value == "" || len(value) > guac.MaxBlob || i >= 64-reserved {
			return &End{Reason: TargetError, Status: guac.ClientUnauthorized,
				Message: "The target asks for a credential that the connection does not have. Ask its owner to add it.",
				Err:     fmt.Errorf("guacd requires %q", name)}
		}
		if err := d.s.guacd.argv(reserved+i, name, value); err != nil {
			return &End{Reason: TargetLost, Status: guac.UpstreamError, Err: err}
		}
	}
	return nil
}

// send records and then sends the bytes of the body between from and to.
func (d *down) send(from, to int) *End {
	if from == to {
		return nil
	}
	payload := d.buf[headroom+from : headroom+to]
	if d.s.Output != nil {
		if err := d.s.Output.Append(payload); err != nil {
			if d.s.Required {
				return recordingFailed(err)
			}
			if !d.broken {
				d.broken = true
				d.s.Logger.Warn("recording the output failed; the session goes on", "error", err)
			}
		}
	}
	if err := d.s.Browser.text(d.buf, headroom+from, to-from); err != nil {
		if timedOut(err) {
			return &End{Reason: ClientTimeout, Status: guac.ClientTimeout, Err: err}
		}
		return &End{Reason: ClientClosed, Status: guac.Success, Err: err}
	}
	d.sent += int64(to - from)
	return nil
}

// ended is the end that guacd announced.
func (d *down) ended() *End {
	if d.failed != nil {
		return &End{Reason: TargetError, Status: d.failed.Status, Err: d.failed}
	}
	return &End{Reason: TargetClosed, Status: guac.Success}
}

// over is the end of guacd's connection without its "disconnect".
func (d *down) over(err error) *End {
	switch {
	case d.failed != nil:
		return d.ended()
	case timedOut(err):
		return &End{Reason: TargetLost, Status: guac.UpstreamTimeout, Message: "The remote desktop service does not answer.", Err: err}
	default:
		return &End{Reason: TargetLost, Status: guac.UpstreamError, Message: "The remote desktop service ended without a word.", Err: err}
	}
}

func recordingFailed(err error) *End {
	return &End{Reason: RecordingFailed, Status: guac.ServerError,
		Message: "This session must be recorded and the recording failed. Open a new session, or tell the operator.", Err: err}
}
