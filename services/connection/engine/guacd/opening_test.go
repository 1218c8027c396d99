package guacd_test

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/connection/engine"
	"github.com/openova-io/bp-relay/services/connection/engine/guacd"
	"github.com/openova-io/bp-relay/services/connection/guac"
	"github.com/openova-io/bp-relay/services/connection/internal/sshprobe"
)

func opening(edit ...func(*guacd.Opening)) *guacd.Opening {
	o := &guacd.Opening{Began: time.Now(), FirstFrame: 3 * time.Second, Answer: time.Second, Offers: guacd.Debian11().Offers}
	for _, fn := range edit {
		fn(o)
	}
	return o
}

// answers is a target that offers these algorithms; err instead if it is set.
func answers(a sshprobe.Algorithms, err error) func(context.Context) (sshprobe.Algorithms, error) {
	return func(context.Context) (sshprobe.Algorithms, error) { return a, err }
}

func silent() error { return sshprobe.ErrSilent }

// Whatever keeps a target from being reached, the browser gets the same bytes, not
// before the same time: what listens where stays unknown.
func TestOneAnswerForAllThatCannotBeReached(t *testing.T) {
	t.Parallel()
	seen := map[string]string{}
	screen := encode("size", "0", "1024", "768") + encode("cfill", "14", "0", "0", "0", "0", "255")
	for name, c := range map[string]struct {
		failed error
		ask    func(context.Context) (sshprobe.Algorithms, error)
		says   string
		closes bool
	}{
		"no such name, or not allowed": {failed: errors.New("refused"), ask: answers(sshprobe.Algorithms{}, silent())},
		"closed":                       {ask: answers(sshprobe.Algorithms{}, silent()), says: screen + encode("error", "Aborted. See logs.", "519") + encode("sync", "5") + encode("disconnect")},
		"open, not SSH":                {ask: answers(sshprobe.Algorithms{}, silent()), says: screen + encode("error", "Aborted. See logs.", "515") + encode("disconnect")},
		"open, not SSH, guacd crashes": {ask: answers(sshprobe.Algorithms{}, silent()), says: screen, closes: true},
		"nothing ever comes":           {ask: answers(sshprobe.Algorithms{}, silent()), says: screen},
		"relay itself cannot ask":      {says: screen + encode("error", "Aborted. See logs.", "519") + encode("disconnect")},
	} {
		t.Run(name, func(t *testing.T) {
			o := opening(func(o *guacd.Opening) { o.Failed, o.Ask = c.failed, c.ask })
			r := start(t, options{opening: o})
			r.guacdSays(c.says)
			if c.closes {
				_ = r.guacd.Close()
			}
			r.send(encode("key", "97", "1")) // whoever types meanwhile learns nothing either
			_, reason, before := r.closes()
			require.GreaterOrEqual(t, time.Since(o.Began), o.Answer)
			require.Equal(t, engine.Unreachable, r.ended().Reason)
			require.Equal(t, strings.Join(before, ""), r.output.String())
			seen[reason+" "+strings.Join(before, "")] = name
		})
	}
	require.Len(t, seen, 1, "%v", seen)
}

func TestAfterTheFirstFrameEverythingIsPassedOn(t *testing.T) {
	t.Parallel()
	r := start(t, options{opening: opening(), rest: encode("size", "0", "1024", "768")})
	r.guacdSays(encode("name", "before"))
	r.guacdSays(encode("sync", "1") + encode("name", "after"))
	want := encode("size", "0", "1024", "768") + encode("name", "before") + encode("sync", "1") + encode("name", "after")
	require.Equal(t, want, r.readAll(len(want)))
	require.Equal(t, want, r.output.String())
}

// A target that was reached but gets no further is told apart, in words.
func TestATargetThatWasReached(t *testing.T) {
	t.Parallel()
	debian12 := sshprobe.Algorithms{Kex: []string{"sntrup761x25519-sha512@openssh.com", "diffie-hellman-group-exchange-sha256"},
		HostKey: []string{"rsa-sha2-512", "rsa-sha2-256", "ecdsa-sha2-nistp256", "ssh-ed25519"},
		Cipher:  []string{"chacha20-poly1305@openssh.com", "aes128-ctr"}, MAC: []string{"hmac-sha2-256"}}
	legacy := guacd.Debian11().Offers
	for name, c := range map[string]struct {
		offers sshprobe.Algorithms
		says   string
		reason engine.Reason
		told   []string
	}{
		"no common host key algorithm": {debian12, encode("error", "Aborted. See logs.", "515") + encode("disconnect"), engine.TargetError,
			[]string{"no host key algorithm in common", "guacd offers: ssh-rsa, ssh-dss.", "The target offers: rsa-sha2-512, rsa-sha2-256, ecdsa-sha2-nistp256, ssh-ed25519."}},
		"no common key exchange": {sshprobe.Algorithms{HostKey: legacy.HostKey, Kex: []string{"sntrup761x25519-sha512"}},
			encode("error", "Aborted. See logs.", "515") + encode("disconnect"), engine.TargetError, []string{"key exchange algorithm", "sntrup761x25519-sha512"}},
		"wrong credentials":  {legacy, encode("error", "Aborted. See logs.", "769") + encode("disconnect"), engine.TargetError, []string{"credentials"}},
		"another host key":   {legacy, encode("error", "Aborted. See logs.", "512") + encode("disconnect"), engine.TargetError, []string{"host key"}},
		"a shell that never": {legacy, "", engine.TargetSilent, []string{"did not begin in time"}},
	} {
		t.Run(name, func(t *testing.T) {
			o := opening(func(o *guacd.Opening) { o.Ask = answers(c.offers, nil) })
			r := start(t, options{opening: o})
			r.guacdSays(c.says)
			_, reason, before := r.closes()
			require.NotEqual(t, guac.UpstreamNotFound.Decimal(), reason)
			require.Equal(t, c.reason, r.ended().Reason)
			for _, words := range c.told {
				require.Contains(t, strings.Join(before, ""), words)
			}
			require.NotContains(t, strings.Join(before, ""), "Aborted")
		})
	}
}

func TestTerminateWhileTheTargetIsWaitedFor(t *testing.T) {
	t.Parallel()
	r := start(t, options{opening: opening(func(o *guacd.Opening) { o.Failed = errors.New("refused"); o.Answer = time.Minute })})
	began := time.Now()
	r.cancel(&engine.End{Reason: engine.Terminated, Message: "over"})
	r.closes()
	require.Less(t, time.Since(began), time.Second)
	require.Equal(t, engine.Terminated, r.ended().Reason)
}

// What the table of Debian's guacd says is what that guacd sends.
func TestWhatGuacdOffers(t *testing.T) {
	g := shared.Guacd(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = l.Close() }()
	at := l.Addr().(*net.TCPAddr)
	conn, err := net.Dial("tcp", g.Address)
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	_, err = guac.Handshake(conn, guac.Opening{Select: "ssh", Screen: guac.Screen{Width: 800, Height: 600, DPI: 96},
		Params: guac.SSH{Hostname: "127.0.0.1", Port: at.Port, Username: "x", Password: "x"}.Params()})
	require.NoError(t, err)
	target, err := l.Accept()
	require.NoError(t, err)
	defer func() { _ = target.Close() }()
	require.NoError(t, target.SetDeadline(time.Now().Add(20*time.Second)))
	_, err = io.WriteString(target, "SSH-2.0-test\r\n")
	require.NoError(t, err)
	got, err := sshprobe.Read(target)
	require.NoError(t, err)
	require.Equal(t, guacd.Debian11().Offers, got)
}

func TestKeysThatGuacdCannotUseAreRefused(t *testing.T) {
	old, err := guacd.New(guacd.Config{Address: "127.0.0.1:1"})
	require.NoError(t, err)
	current, err := guacd.New(guacd.Config{Address: "127.0.0.1:1", SSH: guacd.Current()})
	require.NoError(t, err)
	for kind, key := range privateKeys(t) {
		err := old.Fits(engine.SSH{PrivateKey: key})
		if kind == "RSA" {
			require.NoError(t, err)
		} else {
			var misfit *engine.Misfit
			require.ErrorAs(t, err, &misfit, kind)
			require.Equal(t, "private_key", misfit.Field)
			require.Contains(t, misfit.Why, "cannot log in with "+kind+" keys; give one of: RSA")
		}
		require.NoError(t, current.Fits(engine.SSH{PrivateKey: key}), kind)
	}
	var misfit *engine.Misfit
	require.ErrorAs(t, old.Fits(engine.SSH{HostKey: "ssh-ed25519 AAAA"}), &misfit)
	require.Equal(t, "host_key", misfit.Field)
	require.Contains(t, misfit.Why, "ssh-rsa")
	require.NoError(t, old.Fits(engine.SSH{HostKey: "ssh-rsa AAAA"}))
	require.NoError(t, current.Fits(engine.SSH{HostKey: "ssh-ed25519 AAAA"}))
	require.NoError(t, current.Fits(engine.SSH{HostKey: "ssh-rsa AAAA"}), "by rsa-sha2-512")
}

// A worker of guacd that hangs in the handshake is left, and another one is tried.
func TestAWorkerThatHangsIsTriedAgain(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	e, err := guacd.New(guacd.Config{Address: l.Addr().String()})
	require.NoError(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		hung, err := l.Accept()
		if err != nil {
			return
		}
		defer func() { _ = hung.Close() }()
		works, err := l.Accept()
		if err != nil {
			return
		}
		defer func() { _ = works.Close() }()
		buf := make([]byte, 4096)
		_, _ = works.Read(buf)
		_, _ = io.WriteString(works, encode("args", "VERSION_1_3_0", "hostname"))
		_, _ = works.Read(buf)
		_, _ = io.WriteString(works, encode("ready", "$x"))
	}()
	defer func() { _ = l.Close(); <-done }()
	conn, opened, err := e.Open(t.Context(), guac.Opening{Select: "ssh", Screen: guac.Screen{Width: 800, Height: 600, DPI: 96}})
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	require.Equal(t, "$x", opened.ID)
}
