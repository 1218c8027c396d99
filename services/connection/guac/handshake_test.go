package guac_test

import (
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/connection/guac"
)

// peer is a scripted guacd: it reads whole instructions and answers each opcode
// with bytes.
func peer(t *testing.T, conn net.Conn, answers map[string]string, got chan<- []string) {
	t.Helper()
	var s guac.Scanner
	var raw []byte
	buf := make([]byte, 1) // one byte at a time: every split there is
	for {
		if _, err := conn.Read(buf); err != nil {
			close(got)
			return
		}
		raw = append(raw, buf[0])
		_, done, err := s.Next(buf)
		if err != nil {
			t.Errorf("peer: %v", err)
			close(got)
			return
		}
		if !done {
			continue
		}
		var in guac.Instruction
		if err := in.Parse(raw); err != nil {
			t.Errorf("peer: %v", err)
		}
		got <- append([]string{string(in.Opcode())}, in.Strings()...)
		raw = nil
		if a, has := answers[string(in.Opcode())]; has {
			// In two pieces, cut in the middle.
			_, _ = io.WriteString(conn, a[:len(a)/2])
			_, _ = io.WriteString(conn, a[len(a)/2:])
		}
	}
}

func shake(t *testing.T, o guac.Opening, answers map[string]string) (guac.Opened, [][]string, error) {
	t.Helper()
	var opened guac.Opened
	var err error
	var list [][]string
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		got := make(chan []string, 64)
		go peer(t, theirs, answers, got)
		opened, err = guac.Handshake(ours, o)
		_ = ours.Close()
		for in := range got {
			list = append(list, in)
		}
		_ = theirs.Close()
	})
	return opened, list, err
}

func opening() guac.Opening {
	return guac.Opening{
		Select: "ssh",
		Screen: guac.Screen{Width: 1024, Height: 768, DPI: 96, Image: []string{"image/png", "image/jpeg"}, Timezone: "Europe/Berlin", Name: "Zoë"},
		Params: guac.SSH{Hostname: "host", Port: 2222, Username: "jürgen", Password: "p;4.evil,🙂", HostKey: "ssh-rsa AAAA"}.Params(),
	}
}

func TestHandshakeMapsParametersByName(t *testing.T) {
	opened, got, err := shake(t, opening(), map[string]string{
		"select": string(encode("args", "VERSION_1_3_0", "password", "no-such-thing", "recording-path", "hostname", "username", "port", "host-key")),
		// A keep-alive may arrive in between, and the session's first bytes in the
		// same read as "ready".
		"connect": "3.nop;" + string(encode("ready", "$0b2a")) + "4.size,1.0,4",
	})
	require.NoError(t, err)
	require.Equal(t, "$0b2a", opened.ID)
	require.Equal(t, "VERSION_1_3_0", opened.Version)
	require.Equal(t, "4.size,1.0,4"[:len(opened.Rest)], string(opened.Rest))
	require.Equal(t, []string{"select", "ssh"}, got[0])
	require.Contains(t, got, []string{"size", "1024", "768", "96"})
	require.Contains(t, got, []string{"audio"})
	require.Contains(t, got, []string{"image", "image/png", "image/jpeg"})
	require.Contains(t, got, []string{"timezone", "Europe/Berlin"})
	require.NotContains(t, got, []string{"name", "Zoë"}, "the name instruction is 1.5's")
	require.Equal(t, []string{"connect", "VERSION_1_3_0", "p;4.evil,🙂", "", "", "host", "jürgen", "2222", "host ssh-rsa AAAA"}, got[len(got)-1],
		"non-ASCII values must neither shift nor cut the others (CVE-2023-30575)")
}

func TestHandshakeVersion(t *testing.T) {
	for server, want := range map[string]string{
		"VERSION_1_0_0": "VERSION_1_0_0", "VERSION_1_1_0": "VERSION_1_1_0", "VERSION_1_2_9": "VERSION_1_1_0",
		"VERSION_1_5_0": "VERSION_1_5_0", "VERSION_1_6_0": "VERSION_1_5_0", "VERSION_9": "VERSION_1_5_0",
		"VERSION_x": "VERSION_1_0_0",
	} {
		opened, got, err := shake(t, opening(), map[string]string{
			"select": string(encode("args", server, "hostname")), "connect": string(encode("ready", "$1")),
		})
		require.NoError(t, err)
		require.Equal(t, want, opened.Version, server)
		require.Equal(t, []string{"connect", want, "host"}, got[len(got)-1])
		named := want == "VERSION_1_5_0"
		if named {
			require.Contains(t, got, []string{"name", "Zoë"})
		}
	}
	// The oldest protocol has no version argument.
	opened, got, err := shake(t, opening(), map[string]string{
		"select": string(encode("args", "hostname", "port")), "connect": string(encode("ready", "$1")),
	})
	require.NoError(t, err)
	require.Equal(t, "VERSION_1_0_0", opened.Version)
	require.Equal(t, []string{"connect", "host", "2222"}, got[len(got)-1])
	require.NotContains(t, got, []string{"timezone", "Europe/Berlin"})
}

func TestHandshakeKeepsTheStatusOfAnError(t *testing.T) {
	for _, at := range []string{"select", "connect"} {
		answers := map[string]string{"select": string(encode("args", "VERSION_1_5_0", "hostname")), at: string(encode("error", "No; such, protocol é", "519"))}
		_, _, err := shake(t, opening(), answers)
		var status *guac.StatusError
		require.ErrorAs(t, err, &status)
		require.Equal(t, guac.UpstreamNotFound, status.Status)
		require.Equal(t, "No; such, protocol é", status.Message)
	}
}

func TestHandshakeOfAHostilePeer(t *testing.T) {
	for name, c := range map[string]struct {
		answer string
		want   error
	}{
		"another opcode":   {string(encode("connect", "x")), guac.ErrHandshake},
		"http":             {"HTTP/1.1 400 Bad Request\r\n\r\n", guac.ErrLength},
		"a lying length":   {"4.args,4.VERSION;", guac.ErrTerminator},
		"endless elements": {"4.args" + strings.Repeat(",1.x", 200) + ";", guac.ErrTooManyElements},
		"endless bytes":    {"4.args" + strings.Repeat(",8000."+strings.Repeat("x", 8000), 5) + ";", guac.ErrInstructionTooLong},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := shake(t, opening(), map[string]string{"select": c.answer})
			require.ErrorIs(t, err, c.want)
		})
	}
	_, _, err := shake(t, opening(), map[string]string{"select": string(encode("args", "VERSION_1_5_0")), "connect": string(encode("ready"))})
	require.ErrorIs(t, err, guac.ErrHandshake)
	_, _, err = shake(t, opening(), map[string]string{"select": string(encode("disconnect"))})
	var status *guac.StatusError
	require.ErrorAs(t, err, &status)

	ours, theirs := net.Pipe()
	go func() { _, _ = theirs.Read(make([]byte, 100)); _ = theirs.Close() }()
	_, err = guac.Handshake(ours, opening())
	require.True(t, errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.ErrClosedPipe), "%v", err)
}

func TestHandshakeSendsNothingForABadScreen(t *testing.T) {
	o := opening()
	o.Screen.Width = 0
	_, err := guac.Handshake(nil, o)
	require.ErrorIs(t, err, guac.ErrScreen)
}

func TestAppendRefusesWhatItCannotSay(t *testing.T) {
	for _, c := range []struct {
		args []string
		want error
	}{
		{[]string{"a\x00b"}, guac.ErrNUL},
		{[]string{"\xff"}, guac.ErrUTF8},
		{[]string{strings.Repeat("é", 8193)}, guac.ErrElementTooLong},
		{make([]string, 128), guac.ErrTooManyElements},
		{[]string{strings.Repeat("日", 8192), strings.Repeat("日", 8192)}, guac.ErrInstructionTooLong},
	} {
		out, err := guac.Append([]byte("before"), "name", c.args...)
		require.ErrorIs(t, err, c.want)
		require.Equal(t, "before", string(out))
	}
}
