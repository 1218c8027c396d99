package connection_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	connectionv1 "github.com/openova-io/bp-relay/gen/relay/connection/v1"

	"github.com/openova-io/bp-relay/services/connection/guac"
	"github.com/openova-io/bp-relay/services/records"
)

// The main case: open, type, see the output, terminate, and find in the recording
// what the browser received, byte for byte.
//
// guacd draws text as pictures. Of a command's output a test can read only the
// terminal's title (the escape sequence OSC 0, which guacd 1.3 sends as "name")
// and a selection made with the mouse (a "clipboard" stream).
func TestASessionOnARealTarget(t *testing.T) {
	r := newRig(t)
	p := r.start()
	conn := r.define(p, "shell")
	opened := r.open(p, conn, "ann")
	require.Equal(t, connectionv1.Session_STATE_PENDING, opened.GetSession().GetState())
	require.Len(t, opened.GetTicket(), 43, "256 bits")

	d := dial(t, p, opened.GetTunnelPath(), "GUAC_WIDTH=800&GUAC_HEIGHT=600&GUAC_TIMEZONE=Europe/Berlin&ticket="+opened.GetTicket())
	d.wait("a first frame", func() bool { return d.syncs > 0 })
	name := opened.GetSession().GetName()
	running := r.session(p, name, connectionv1.Session_STATE_ACTIVE)
	require.NotEmpty(t, running.GetCapture())
	require.NotNil(t, running.GetStartTime())

	d.ready()
	d.enter(`clear; printf '\033]0;proof-%s\007' $((6*7)); printf 'sel%sected\n' -`)
	d.wait("the title with the command's output", func() bool { return slices.Contains(d.names, "proof-42") })

	// Drag over the first line: the selection arrives as a clipboard.
	require.Eventually(t, func() bool {
		for _, m := range []string{"3,8,0", "3,8,1", "780,8,1", "780,8,0"} {
			require.NoError(t, d.ws.Write(t.Context(), websocket.MessageText, []byte(instruction("mouse", strings.Split(m, ",")...))))
		}
		d.mu.Lock()
		defer d.mu.Unlock()
		return slices.ContainsFunc(d.clips, func(s string) bool { return strings.Contains(s, "sel-ected") })
	}, 20*time.Second, 200*time.Millisecond, "the selection")

	began := time.Now()
	out, err := p.TerminateSession(as(t, "boss"), &connectionv1.TerminateSessionRequest{Name: name, Reason: "enough"})
	require.NoError(t, err)
	require.Equal(t, connectionv1.Session_STATE_ENDING, out.GetSession().GetState())
	status, told := d.closed()
	require.Less(t, time.Since(began), time.Second)
	require.Equal(t, guac.SessionClosed, status)
	require.Contains(t, told, "ended")

	over := r.session(p, name, connectionv1.Session_STATE_ENDED)
	require.Equal(t, "terminated", over.GetEndReason())
	require.Len(t, over.GetManifestSha256(), 64)
	require.True(t, recorded(t, p, over.GetCapture(), "output") == d.bytes(), "the recording is what the browser got")
	input := recorded(t, p, over.GetCapture(), "input")
	require.Contains(t, input, instruction("key", "65293", "1"))
	require.Contains(t, input, instruction("mouse", "780", "8", "1"))
	info, err := p.captures.Get(t.Context(), over.GetCapture())
	require.NoError(t, err)
	require.Equal(t, over.GetManifestSha256(), info.Manifest.SHA256)
	require.Zero(t, info.Manifest.Gaps)

	// What the log says of the session's end is what the recording has.
	var end struct {
		Detail struct {
			Output  int64            `json:"output_bytes"`
			Input   int64            `json:"input_bytes"`
			Streams map[string]int64 `json:"streams"`
		} `json:"detail"`
	}
	require.NoError(t, json.Unmarshal([]byte(r.opening(name, "session.ended")), &end))
	require.Equal(t, int64(len(d.bytes())), end.Detail.Output, "the last message is counted, too")
	require.Equal(t, int64(len(input)), end.Detail.Input)
	require.Equal(t, map[string]int64{"output": end.Detail.Output, "input": end.Detail.Input}, end.Detail.Streams)

	// Where the session went is an opening, which the manifest commits to.
	for _, want := range []string{`"host":"` + r.sshd.Host + `"`, `"account":"` + r.sshd.User + `"`, "SHA256:", over.GetCapture()} {
		require.Contains(t, r.opening(name, "session.target"), want)
	}
	m, envelope, err := p.captures.Manifest(t.Context(), over.GetCapture())
	require.NoError(t, err)
	require.NotEmpty(t, m.Attributes["target_commit"])
	require.NotContains(t, string(envelope), r.sshd.Host)

	_, err = p.TerminateSession(as(t, "boss"), &connectionv1.TerminateSessionRequest{Name: name})
	require.NoError(t, err, "terminating an ended session succeeds")

	// Only guacd got the secrets.
	secret := strings.Split(r.sshd.PrivateKey, "\n")[3]
	require.NotContains(t, r.log.String(), secret)
	require.NotContains(t, r.log.String(), opened.GetTicket())
	require.NotContains(t, d.bytes()+input, secret)
	var leaves []records.Leaf
	for _, subject := range []string{name, conn} {
		l, err := r.records.Log().LeavesOf(t.Context(), "acme", subject, -1, 100)
		require.NoError(t, err)
		leaves = append(leaves, l...)
	}
	var types []string
	for _, l := range leaves {
		require.NotContains(t, string(l.Opening), secret)
		types = append(types, typeOf(t, l))
	}
	require.ElementsMatch(t, []string{"session.opened", "session.started", "session.target", "session.terminated", "session.ended", "session.sealed", "connection.created"}, types)
}
