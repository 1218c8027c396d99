package stacktest_test

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

// instruction encodes one Guacamole instruction; lengths count code points.
func instruction(elements ...string) string {
	for i, e := range elements {
		elements[i] = fmt.Sprintf("%d.%s", utf8.RuneCountInString(e), e)
	}
	return strings.Join(elements, ",") + ";"
}

// TestGuacdReachesSSHD types a command through guacd into a shell of the
// private sshd and waits for what the command leaves on disk.
func TestGuacdReachesSSHD(t *testing.T) {
	guacd, sshd := shared.Guacd(t), shared.SSHD(t)
	conn, err := net.Dial("tcp", guacd.Address)
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	require.NoError(t, conn.SetDeadline(time.Now().Add(30*time.Second)))
	in := bufio.NewReader(conn)
	_, err = conn.Write([]byte(instruction("select", "ssh")))
	require.NoError(t, err)
	args, err := in.ReadString(';')
	require.NoError(t, err)

	values := map[string]string{
		"VERSION_1_3_0": "VERSION_1_3_0",
		"hostname":      sshd.Host, "port": strconv.Itoa(sshd.Port),
		"username": sshd.User, "private-key": sshd.PrivateKey,
	}
	connect := []string{"connect"}
	for _, element := range strings.Split(strings.TrimSuffix(args, ";"), ",")[1:] {
		_, name, _ := strings.Cut(element, ".")
		connect = append(connect, values[name])
	}
	_, err = conn.Write([]byte(instruction("size", "800", "600", "96") + instruction("audio") +
		instruction("video") + instruction("image", "image/png") + instruction(connect...)))
	require.NoError(t, err)
	ready, err := in.ReadString(';')
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(ready, "5.ready,"), ready)

	proof := filepath.Join(t.TempDir(), "typed")
	shown := false // the prompt was drawn and the command typed
	for !exists(proof) {
		line, err := in.ReadString(';')
		require.NoError(t, err)
		require.False(t, strings.HasPrefix(line, "5.error"), line)
		stamp, isSync := strings.CutPrefix(line, "4.sync,")
		if !isSync {
			continue
		}
		_, stamp, _ = strings.Cut(strings.TrimSuffix(stamp, ";"), ".")
		_, err = conn.Write([]byte(instruction("sync", stamp)))
		require.NoError(t, err)
		if !shown {
			shown = true
			var keys strings.Builder
			for _, r := range "echo $HOME > " + proof {
				keys.WriteString(instruction("key", strconv.Itoa(int(r)), "1") + instruction("key", strconv.Itoa(int(r)), "0"))
			}
			keys.WriteString(instruction("key", "65293", "1") + instruction("key", "65293", "0")) // Return
			_, err = conn.Write([]byte(keys.String()))
			require.NoError(t, err)
		}
	}
	// The shell is at a home of its own: nobody's dotfiles are read.
	require.Eventually(t, func() bool {
		said, err := os.ReadFile(proof)
		return err == nil && strings.HasSuffix(string(said), "/sshd/home\n")
	}, 10*time.Second, 20*time.Millisecond)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
