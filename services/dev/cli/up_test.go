package cli

import (
	"net"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/app"
)

// If a port is taken, the first line that a newcomer sees names it and says what
// to do. That includes the ports that only the gateway opens: the gateway itself
// would print a stack trace.
func TestTakenAndForeignAddressesAreNamed(t *testing.T) {
	taken, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { require.NoError(t, taken.Close()) }()
	free := func() app.Config {
		c := app.Default()
		c.Turn.Gateway = "default"
		for _, to := range []*string{&c.Listen.API, &c.Listen.Admin, &c.Turn.CDS, &c.Turn.Listen, &c.Turn.Health, &c.Turn.Metrics, &c.Turn.Echo} {
			*to = "127.0.0.1:0"
		}
		return c
	}
	require.NoError(t, freeAddresses(t.Context(), free()))

	c := free()
	c.Turn.Listen = taken.LocalAddr().String()
	err = freeAddresses(t.Context(), c)
	require.ErrorContains(t, err, c.Turn.Listen+" is taken")
	require.ErrorContains(t, err, "--turn.listen")
	c.Turn.Gateway = ""
	require.NoError(t, freeAddresses(t.Context(), c), "without a gateway nobody needs it")

	c = free()
	c.Listen.API = "0.0.0.0:0"
	require.ErrorContains(t, freeAddresses(t.Context(), c), "not a loopback address")
	c.Listen.API = "8080"
	require.ErrorContains(t, freeAddresses(t.Context(), c), "not host:port")
}
