package address_test

import (
	"context"
	"errors"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/connection/address"
)

func rules(t *testing.T, allow ...string) *address.Rules {
	t.Helper()
	r := &address.Rules{
		Local: func() ([]netip.Addr, error) { return []netip.Addr{netip.MustParseAddr("10.1.1.1")}, nil },
		Lookup: func(_ context.Context, host string) ([]netip.Addr, error) {
			switch host {
			case "mixed.test":
				return []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("fe80::1%eth0"), netip.MustParseAddr("10.2.2.2")}, nil
			case "redis.test":
				return []netip.Addr{netip.MustParseAddr("10.3.3.3")}, nil
			case "empty.test":
				return nil, nil
			}
			return nil, errors.New("no such host")
		},
	}
	for _, text := range allow {
		e, err := address.Parse(text)
		require.NoError(t, err)
		r.Allow = append(r.Allow, e)
	}
	return r
}

func TestWhatNobodyButTheOperatorMayAllow(t *testing.T) {
	r := rules(t)
	for _, host := range []string{
		"0.0.0.0", "0.1.2.3", "127.0.0.1", "127.255.255.254", "169.254.169.254", "169.254.0.1", "100.100.100.200", "168.63.129.16", "192.0.0.192",
		"224.0.0.1", "255.255.255.255", "240.0.0.1", "10.1.1.1",
		"::", "::1", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1", "fd00:ec2::254", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1",
		"64:ff9b::127.0.0.1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::", "2001::1", "100::1",
		"127.1", "2130706433", "0x7f.1", "0x7f000001", "017700000001", "1.2.3.0x4", "1.2.3.4.",
	} {
		_, err := r.Resolve(t.Context(), "acme", host, 22)
		require.ErrorIs(t, err, address.ErrRefused, host)
	}
	for _, host := range []string{"10.1.1.2", "192.168.1.1", "8.8.8.8", "2001:db8::1", "fd00::1", "::ffff:10.1.1.2", "64:ff9b::808:808"} {
		_, err := r.Resolve(t.Context(), "acme", host, 22)
		require.NoError(t, err, host)
		require.NoError(t, r.Literal("acme", host), host)
	}
	for _, host := range []string{"127.0.0.1", "127.1", "2130706433", "::ffff:127.0.0.1", "0x7f.1"} {
		require.ErrorIs(t, r.Literal("acme", host), address.ErrRefused, host)
	}
	require.NoError(t, r.Literal("acme", "localhost"), "names are checked when they are dialled")
}

func TestResolveReturnsWhatWasChecked(t *testing.T) {
	r := rules(t)
	a, err := r.Resolve(t.Context(), "acme", "mixed.test", 22)
	require.NoError(t, err)
	require.Equal(t, netip.MustParseAddr("10.2.2.2"), a)
	a, err = r.Resolve(t.Context(), "acme", "::ffff:10.2.2.2", 22)
	require.NoError(t, err)
	require.Equal(t, netip.MustParseAddr("10.2.2.2"), a)
	for _, host := range []string{"nobody.test", "empty.test"} {
		_, err = r.Resolve(t.Context(), "acme", host, 22)
		require.Error(t, err)
	}
}

func TestTheOperatorsExceptions(t *testing.T) {
	r := rules(t, "127.0.0.1", "169.254.7.0/24", "[::1]:2222")
	for host, port := range map[string]uint16{"127.0.0.1": 22, "169.254.7.9": 1, "::1": 2222, "::ffff:127.0.0.1": 9} {
		_, err := r.Resolve(t.Context(), "acme", host, port)
		require.NoError(t, err, host)
	}
	for host, port := range map[string]uint16{"127.0.0.2": 22, "169.254.8.1": 22, "::1": 22} {
		_, err := r.Resolve(t.Context(), "acme", host, port)
		require.ErrorIs(t, err, address.ErrRefused, host)
	}
	for _, bad := range []string{"", "localhost", "1.2.3.4/33", "1.2.3.4:99999"} {
		_, err := address.Parse(bad)
		require.Error(t, err, bad)
	}
}

// The product's own parts are refused, whatever network is allowed, unless the
// operator names the port.
func TestOwnParts(t *testing.T) {
	r := rules(t, "127.0.0.1", "10.1.1.1")
	r.Own = []string{"redis.test:6379", "127.0.0.1:4822", ":8080", "gone.test:5432"}
	for host, port := range map[string]uint16{"10.3.3.3": 6379, "127.0.0.1": 4822, "redis.test": 6379} {
		_, err := r.Resolve(t.Context(), "acme", host, port)
		require.ErrorIs(t, err, address.ErrRefused, host)
	}
	for host, port := range map[string]uint16{"10.3.3.3": 22, "127.0.0.1": 22} {
		_, err := r.Resolve(t.Context(), "acme", host, port)
		require.NoError(t, err, host)
	}
	r.Allow = rules(t, "10.3.3.3:6379").Allow
	_, err := r.Resolve(t.Context(), "acme", "10.3.3.3", 6379)
	require.NoError(t, err)
	_, err = r.Resolve(t.Context(), "acme", "10.9.9.9", 5432)
	require.ErrorIs(t, err, address.ErrRefused, "what cannot be known is not allowed")
}

func TestAnOrganisationsList(t *testing.T) {
	r := rules(t)
	r.Orgs = map[string][]netip.Prefix{"acme": {netip.MustParsePrefix("10.2.0.0/16"), netip.MustParsePrefix("127.0.0.0/8")}, "none": {}}
	_, err := r.Resolve(t.Context(), "acme", "10.2.2.2", 22)
	require.NoError(t, err)
	for org, host := range map[string]string{"acme": "10.3.3.3", "none": "10.2.2.2"} {
		_, err := r.Resolve(t.Context(), org, host, 22)
		require.ErrorIs(t, err, address.ErrRefused)
	}
	_, err = r.Resolve(t.Context(), "acme", "127.0.0.1", 22)
	require.ErrorIs(t, err, address.ErrRefused, "no organisation allows what only the operator may")
	_, err = r.Resolve(t.Context(), "other", "10.3.3.3", 22)
	require.NoError(t, err)
}

func FuzzParseAndResolve(f *testing.F) {
	for _, s := range []string{"127.1", "::ffff:1.2.3.4", "fe80::1%1", "0x", "1.", "a.1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, host string) {
		r := rules(t)
		a, err := r.Resolve(t.Context(), "acme", host, 22)
		if err == nil && (a.IsLoopback() || a.IsUnspecified() || a.IsLinkLocalUnicast() || a.IsMulticast() || a.Zone() != "" || a.Is4In6()) {
			t.Fatalf("%q became %v", host, a)
		}
		_, _ = address.Parse(host)
	})
}
