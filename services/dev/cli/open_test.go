package cli

import (
	"bytes"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/app"
)

// Where the ports cannot be closed to other users, up says which stay open and
// what to do, and its help has said so before.
func TestUpSaysThatPortsStayOpen(t *testing.T) {
	cfg := app.Default()
	cfg.Guacd.Address, cfg.Turn.Gateway = "", "default"
	var said bytes.Buffer
	closeToOthers(cfg, func(...int) error { return syscall.EPERM }, &said)
	for _, want := range []string{"WARNING: other users", cfg.Listen.Admin, cfg.Turn.CDS, cfg.Turn.Health, cfg.Turn.Metrics, "guacd", "CAP_NET_ADMIN", "operation not permitted"} {
		require.Contains(t, said.String(), want)
	}
	require.Equal(t, 1, strings.Count(said.String(), "WARNING"))
	require.Contains(t, upCommand().Long, "CAP_NET_ADMIN")
	require.Contains(t, upCommand().Long, "stay open")

	said.Reset()
	var closed []int
	closeToOthers(cfg, func(ports ...int) error { closed = append(closed, ports...); return nil }, &said)
	require.Empty(t, said.String())
	require.Len(t, closed, 4)
}
