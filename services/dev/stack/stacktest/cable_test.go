package stacktest_test

import (
	"bufio"
	"io"
	"net"
	"net/url"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/dev/stack/stacktest"
)

// echo answers each line with the same line, and counts them.
func echo(t *testing.T) (addr string, lines <-chan string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	heard := make(chan string, 16)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				for s := bufio.NewScanner(c); s.Scan(); {
					heard <- s.Text()
					_, _ = io.WriteString(c, s.Text()+"\n")
				}
			}()
		}
	}()
	return "tcp://" + l.Addr().String(), heard
}

func TestCable(t *testing.T) {
	server, heard := echo(t)
	cable, through := stacktest.NewCable(t, server)
	u, err := url.Parse(through)
	require.NoError(t, err)
	dial := func() net.Conn {
		c, err := net.Dial("tcp", u.Host)
		require.NoError(t, err)
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	say := func(c net.Conn, line string) {
		_, err := io.WriteString(c, line+"\n")
		require.NoError(t, err)
	}
	answer := func(c net.Conn, patience time.Duration) (string, error) {
		require.NoError(t, c.SetReadDeadline(time.Now().Add(patience)))
		line, err := bufio.NewReader(c).ReadString('\n')
		return line, err
	}
	c := dial()
	say(c, "one")
	got, err := answer(c, 5*time.Second)
	require.NoError(t, err)
	require.Equal(t, "one\n", got)
	require.Equal(t, "one", <-heard)

	cable.Hang()
	say(c, "late")
	_, err = answer(c, 100*time.Millisecond)
	require.ErrorIs(t, err, os.ErrDeadlineExceeded, "the connection stays and nothing arrives")
	require.Empty(t, heard)
	fresh := dial()
	say(fresh, "fresh")
	cable.Mend()
	got, err = answer(c, 5*time.Second)
	require.NoError(t, err)
	require.Equal(t, "late\n", got)
	got, err = answer(fresh, 5*time.Second)
	require.NoError(t, err)
	require.Equal(t, "fresh\n", got)
	require.ElementsMatch(t, []string{"late", "fresh"}, []string{<-heard, <-heard})

	cable.Lose()
	say(c, "done")
	_, err = answer(c, 5*time.Second)
	require.Error(t, err)
	require.NotErrorIs(t, err, os.ErrDeadlineExceeded, "the connection ends")
	require.Equal(t, "done", <-heard, "and what was asked for happened")

	cable.Cut()
	_, err = answer(fresh, 5*time.Second)
	require.Error(t, err)
	require.NotErrorIs(t, err, os.ErrDeadlineExceeded)
	cable.Mend()
	c = dial()
	say(c, "again")
	got, err = answer(c, 5*time.Second)
	require.NoError(t, err)
	require.Equal(t, "again\n", got)
}
