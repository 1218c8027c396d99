package guacd_test

import (
	"context"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/connection/engine"
	"github.com/openova-io/bp-relay/services/connection/guac"
)

// Known bugs of other brokers: characters split over two reads, characters outside
// the BMP, terminators in values.
func TestEveryCutOfTheStreamArrivesAsItWas(t *testing.T) {
	t.Parallel()
	text := encode("name", "grüße; 日本語, 🙂🙂") + encode("sync", "17") + encode("audio", "1", "audio/L16;rate=44100,channels=2")
	r := start(t, options{rest: text[:7]})
	r.guacdSays(text[7:])
	require.Equal(t, text, r.readAll(len(text)))
	for cut := range len(text) {
		r.guacdSays(text[:cut])
		time.Sleep(200 * time.Microsecond) // so that the cut falls between two reads
		r.guacdSays(text[cut:])
		require.Equal(t, text, r.readAll(len(text)), "cut at %d", cut)
	}
	require.True(t, strings.Repeat(text, len(text)+1) == r.output.String())
	r.guacdSays(encode("disconnect"))
	code, reason, _ := r.closes()
	require.EqualValues(t, 1000, code)
	require.Equal(t, "0", reason)
	require.Equal(t, engine.TargetClosed, r.ended().Reason)
}

func TestALotOfOutputIsRecordedByteForByte(t *testing.T) {
	t.Parallel()
	r := start(t, options{})
	var want strings.Builder
	rnd := rand.New(rand.NewPCG(1, 2))
	for want.Len() < 8<<20 {
		switch rnd.IntN(3) {
		case 0:
			want.WriteString(encode("blob", "3", strings.Repeat("QUJD", rnd.IntN(2016))))
		case 1:
			want.WriteString(encode("name", strings.Repeat("ü日🙂x", rnd.IntN(900))))
		default:
			want.WriteString(encode("sync", "5"))
		}
	}
	go func() {
		all := want.String()
		for len(all) > 0 {
			n := min(len(all), 1+rnd.IntN(100_000))
			if _, err := r.guacd.Write([]byte(all[:n])); err != nil {
				return
			}
			all = all[n:]
		}
	}()
	got := r.readAll(want.Len())
	require.True(t, got == want.String())
	require.True(t, r.output.String() == got, "the recording is what the browser got")
}

func TestPingsAreEchoedAndStayInTheTunnel(t *testing.T) {
	t.Parallel()
	r := start(t, options{})
	r.send(encode("", "ping", "1700000000123"))
	require.Equal(t, encode("", "ping", "1700000000123"), r.read())
	r.send(encode("nop"))
	r.send(encode("key", "97", "1") + encode("", "ping", "5") + encode("key", "97", "0"))
	require.Equal(t, encode("", "ping", "5"), r.read())
	r.guacdHears(encode("key", "97", "1") + encode("key", "97", "0"))
	require.Equal(t, encode("key", "97", "1")+encode("key", "97", "0"), r.input.String())
	require.Empty(t, r.output.String())
}

func TestGuacdHearsOfASilentBrowser(t *testing.T) {
	t.Parallel()
	r := start(t, options{keepAlive: 20 * time.Millisecond})
	buf := make([]byte, len("3.nop;"))
	for range 3 {
		require.NoError(t, r.guacd.SetReadDeadline(time.Now().Add(10*time.Second)))
		_, err := r.guacd.Read(buf)
		require.NoError(t, err)
		require.Equal(t, "3.nop;", string(buf))
	}
	require.Empty(t, r.input.String(), "the broker's own words are not the browser's input")
}

// A hidden tab's timers are throttled, but its WebSocket's pongs are not.
func TestABrowserThatOnlyPongsStays(t *testing.T) {
	t.Parallel()
	r := start(t, options{keepAlive: 50 * time.Millisecond, read: 1500 * time.Millisecond})
	stop := time.Now().Add(4 * time.Second) // more than twice what silence may last
	for time.Now().Before(stop) {
		r.guacdSays(encode("nop"))
		require.Equal(t, encode("nop"), r.read()) // reading answers pings
		time.Sleep(10 * time.Millisecond)
	}
}

func TestSilence(t *testing.T) {
	t.Parallel()
	t.Run("of guacd", func(t *testing.T) {
		r := start(t, options{read: 1500 * time.Millisecond, keepAlive: 50 * time.Millisecond})
		_, reason, before := r.closes()
		require.Equal(t, guac.UpstreamTimeout.Decimal(), reason)
		require.Contains(t, strings.Join(before, ""), "5.error,")
		require.Equal(t, engine.TargetLost, r.ended().Reason)
	})
	t.Run("of the browser", func(t *testing.T) {
		r := start(t, options{read: 1500 * time.Millisecond, keepAlive: 50 * time.Millisecond})
		done := make(chan struct{})
		go func() {
			defer close(done)
			for { // guacd is alive; the client neither reads nor writes
				if _, err := r.guacd.Write([]byte("3.nop;")); err != nil {
					return
				}
				time.Sleep(10 * time.Millisecond)
			}
		}()
		require.Equal(t, engine.ClientTimeout, r.ended().Reason)
		_ = r.guacd.Close()
		<-done
	})
}

func TestTheTargetsEnd(t *testing.T) {
	t.Parallel()
	t.Run("an error keeps its status", func(t *testing.T) {
		r := start(t, options{})
		r.guacdSays(encode("error", "Aborted; see logs.", "519") + encode("disconnect"))
		_, reason, before := r.closes()
		require.Equal(t, "519", reason)
		require.Equal(t, encode("error", "Aborted; see logs.", "519")+encode("disconnect"), strings.Join(before, ""))
		end := r.ended()
		require.Equal(t, engine.TargetError, end.Reason)
		require.Equal(t, guac.UpstreamNotFound, end.Status)
		require.Equal(t, strings.Join(before, ""), r.output.String())
	})
	t.Run("gone without a word", func(t *testing.T) {
		r := start(t, options{})
		_ = r.guacd.Close()
		_, reason, before := r.closes()
		require.Equal(t, guac.ServerError.Decimal(), reason)
		require.Contains(t, strings.Join(before, ""), "crashed", "guacd's worker is gone, and that is said")
		require.Equal(t, engine.Crashed, r.ended().Reason)
		require.Equal(t, strings.Join(before, ""), r.output.String())
	})
	for name, bad := range map[string]string{
		"a lying length":                "4.names,1.x;",
		"a lying length, and not UTF-8": "4.name,3.\xff\xfe\xfd\xfc\xfb;",
		"too long":                      "4.blob" + strings.Repeat(",8000."+strings.Repeat("x", 8000), 5) + ";",
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, options{})
			r.guacdSays(encode("sync", "1") + bad)
			_, reason, before := r.closes()
			require.Equal(t, guac.ServerError.Decimal(), reason)
			require.True(t, strings.HasPrefix(strings.Join(before, ""), encode("sync", "1")), "what was whole before it arrives")
			require.Equal(t, engine.TargetViolation, r.ended().Reason)
			require.NotContains(t, r.output.String(), bad)
		})
	}
}

func TestTheClientsEnd(t *testing.T) {
	t.Parallel()
	t.Run("goodbye", func(t *testing.T) {
		r := start(t, options{})
		r.send(encode("key", "97", "1") + encode("disconnect"))
		r.guacdHears(encode("key", "97", "1") + encode("disconnect"))
		code, _, _ := r.closes()
		require.EqualValues(t, 1000, code)
		require.Equal(t, engine.ClientClosed, r.ended().Reason)
	})
	t.Run("close frame", func(t *testing.T) {
		r := start(t, options{})
		require.NoError(t, r.ws.Close(websocket.StatusNormalClosure, ""))
		require.Equal(t, engine.ClientClosed, r.ended().Reason)
		r.guacdHears(encode("disconnect"))
	})
	t.Run("cable pulled", func(t *testing.T) {
		r := start(t, options{})
		require.NoError(t, r.ws.CloseNow())
		require.Equal(t, engine.ClientClosed, r.ended().Reason)
	})
	for name, c := range map[string]struct {
		kind   websocket.MessageType
		msg    string
		status guac.Status
	}{
		"half an instruction": {websocket.MessageText, "3.key,2.97", guac.ClientBadRequest},
		"not the protocol":    {websocket.MessageText, "hello", guac.ClientBadRequest},
		"binary":              {websocket.MessageBinary, encode("nop"), guac.ClientBadType},
		"a megabyte":          {websocket.MessageText, strings.Repeat(encode("nop"), 200_000), guac.ClientOverrun},
		"a length that hides": {websocket.MessageText, encode("key", "97", "1") + "3.key,9.97,1.1;4.x;", guac.ClientBadRequest},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, options{})
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			_ = r.ws.Write(ctx, c.kind, []byte(c.msg)) // may fail when it is cut off
			code, reason, _ := r.closes()
			require.Equal(t, c.status.Decimal(), reason)
			require.EqualValues(t, c.status.WebSocketCode(), code)
			require.Equal(t, engine.ClientViolation, r.ended().Reason)
			r.guacdHears(encode("disconnect")) // nothing of the message
			require.Empty(t, r.input.String())
		})
	}
}

func TestSyncOfASentFrameIsForwarded(t *testing.T) {
	t.Parallel()
	var clock atomic.Int64
	r := start(t, options{clock: func(ms int64, _ time.Time) { clock.Store(ms) }})
	r.guacdSays(encode("sync", "41") + encode("sync", "42", "1"))
	require.Equal(t, encode("sync", "41")+encode("sync", "42", "1"), r.readAll(1))
	require.EqualValues(t, 41, clock.Load(), "the first frame binds guacd's clock to ours")
	r.send(encode("sync", "42"))
	r.guacdHears(encode("sync", "42"))
}

// guacd waits for parameters: they come from the definition, and neither question
// nor answer reaches the browser or the recording.
func TestRequiredIsAnsweredFromTheDefinition(t *testing.T) {
	t.Parallel()
	r := start(t, options{params: guac.Params{"password": "s3cret", "username": "ann"}})
	r.guacdSays(encode("sync", "1") + encode("required", "username", "password") + encode("sync", "2"))
	r.guacdHears(encode("argv", "56", "text/plain", "username") + encode("blob", "56", "YW5u") + encode("end", "56") +
		encode("argv", "57", "text/plain", "password") + encode("blob", "57", "czNjcmV0") + encode("end", "57"))
	r.guacdSays(encode("ack", "56", "OK", "0") + encode("ack", "2", "OK", "0") + encode("ack", "57", "OK", "0"))
	want := encode("sync", "1") + encode("sync", "2") + encode("ack", "2", "OK", "0")
	require.Equal(t, want, r.readAll(len(want)))
	require.Equal(t, want, r.output.String())
	require.Empty(t, r.input.String())

	r.guacdSays(encode("required", "domain"))
	_, reason, _ := r.closes()
	require.Equal(t, guac.ClientUnauthorized.Decimal(), reason)
	require.Equal(t, engine.TargetError, r.ended().Reason)
}

func TestRequiredDoesNotGoOnForEver(t *testing.T) {
	t.Parallel()
	r := start(t, options{params: guac.Params{"password": "wrong"}})
	r.guacdSays(strings.Repeat(encode("required", "password"), 100))
	_, reason, _ := r.closes()
	require.Equal(t, guac.ClientUnauthorized.Decimal(), reason)
	r.ended()
}

func TestARecordingThatFails(t *testing.T) {
	t.Parallel()
	t.Run("required: output", func(t *testing.T) {
		r := start(t, options{})
		r.output.breakNow()
		r.guacdSays(encode("sync", "1"))
		_, reason, before := r.closes()
		require.Equal(t, guac.ServerError.Decimal(), reason)
		require.NotContains(t, strings.Join(before, ""), encode("sync", "1"), "what is not recorded is not shown")
		require.Equal(t, engine.RecordingFailed, r.ended().Reason)
	})
	t.Run("required: input", func(t *testing.T) {
		r := start(t, options{})
		r.input.breakNow()
		r.send(encode("key", "97", "1"))
		_, reason, _ := r.closes()
		require.Equal(t, guac.ServerError.Decimal(), reason)
		require.Equal(t, engine.RecordingFailed, r.ended().Reason)
		r.guacdHears(encode("disconnect")) // the key never came
	})
	t.Run("best effort", func(t *testing.T) {
		r := start(t, options{bestEffort: true})
		r.output.breakNow()
		r.input.breakNow()
		r.guacdSays(encode("sync", "1"))
		require.Equal(t, encode("sync", "1"), r.read())
		r.send(encode("key", "97", "1"))
		r.guacdHears(encode("key", "97", "1"))
	})
}

func TestTerminate(t *testing.T) {
	t.Parallel()
	why := &engine.End{Reason: engine.Terminated, Status: guac.SessionClosed, Message: "Ended by your administrator."}
	t.Run("idle", func(t *testing.T) {
		r := start(t, options{})
		began := time.Now()
		r.cancel(why)
		_, reason, before := r.closes()
		require.Less(t, time.Since(began), time.Second)
		require.Equal(t, guac.SessionClosed.Decimal(), reason)
		require.Equal(t, encode("error", why.Message, "523"), strings.Join(before, ""))
		require.Equal(t, strings.Join(before, ""), r.output.String(), "what the browser was told is in the recording")
		require.Equal(t, engine.Terminated, r.ended().Reason)
		r.guacdHears(encode("disconnect"))
	})
	t.Run("a browser that takes nothing, a guacd that floods", func(t *testing.T) {
		r := start(t, options{})
		flooded := make(chan struct{})
		go func() {
			defer close(flooded)
			blob := []byte(strings.Repeat(encode("blob", "1", strings.Repeat("QUJD", 2000)), 10))
			for {
				if _, err := r.guacd.Write(blob); err != nil {
					return
				}
			}
		}()
		// Wait until the browser's buffers are full: the recording stops growing.
		for last := -1; len(r.output.String()) != last; time.Sleep(100 * time.Millisecond) {
			last = len(r.output.String())
		}
		began := time.Now()
		r.cancel(why)
		require.Equal(t, engine.Terminated, r.ended().Reason)
		require.Less(t, time.Since(began), time.Second)
		<-flooded
	})
}

func TestASlowBrowserEndsItsSession(t *testing.T) {
	t.Parallel()
	r := start(t, options{write: 300 * time.Millisecond, keepAlive: 20 * time.Millisecond})
	nops := make(chan int, 1)
	go func() {
		n := 0
		buf := make([]byte, 4096)
		for {
			k, err := r.guacd.Read(buf)
			n += strings.Count(string(buf[:k]), "3.nop;")
			if err != nil {
				nops <- n
				return
			}
		}
	}()
	blob := []byte(strings.Repeat(encode("blob", "1", strings.Repeat("QUJD", 2000)), 10))
	for {
		if _, err := r.guacd.Write(blob); err != nil {
			break
		}
	}
	require.Equal(t, engine.ClientTimeout, r.ended().Reason)
	require.Greater(t, <-nops, 2, "guacd heard of us while the browser was slow")
}

// If a session is terminated while guacd sends, the recording holds exactly what
// the browser received.
func TestTerminateInTheMiddleOfOutput(t *testing.T) {
	t.Parallel()
	for range 30 {
		r := start(t, options{})
		flooded := make(chan struct{})
		go func() {
			defer close(flooded)
			for {
				if _, err := r.guacd.Write([]byte(encode("name", "日本語") + encode("sync", "1"))); err != nil {
					return
				}
			}
		}()
		first := r.readAll(1000)
		r.cancel(&engine.End{Reason: engine.Terminated, Status: guac.SessionClosed, Message: "over"})
		_, _, rest := r.closes()
		r.ended()
		require.True(t, r.output.String() == first+strings.Join(rest, ""))
		<-flooded
	}
}

func TestShutdown(t *testing.T) {
	t.Parallel()
	r := start(t, options{})
	r.cancel(nil)
	_, reason, _ := r.closes()
	require.Equal(t, guac.SessionClosed.Decimal(), reason)
	require.Equal(t, engine.Shutdown, r.ended().Reason)
}
