package address

import "net/netip"

// inside returns an address and the IPv4 address that it stands for, if it does:
// a translator or a tunnel on the way may dial that one.
func inside(a netip.Addr) []netip.Addr {
	out := []netip.Addr{a}
	b := a.As16()
	v4 := func(at int) { out = append(out, netip.AddrFrom4([4]byte(b[at:at+4]))) }
	switch {
	case a.Is4():
	case netip.MustParsePrefix("64:ff9b::/96").Contains(a), netip.MustParsePrefix("::/96").Contains(a) && !a.IsUnspecified() && !a.IsLoopback():
		v4(12) // NAT64 (RFC 6052); IPv4-compatible (RFC 4291, section 2.5.5.1)
	case netip.MustParsePrefix("2002::/16").Contains(a):
		v4(2) // 6to4 (RFC 3056)
	}
	return out
}

// special says what kind of address only the operator may allow, or "".
func special(a netip.Addr) string {
	for _, n := range []struct{ prefix, what string }{
		{"0.0.0.0/8", "this host (RFC 1122)"},
		{"127.0.0.0/8", "loopback"},
		{"169.254.0.0/16", "link-local, and the metadata of a cloud"},
		{"100.100.100.200/32", "the metadata of a cloud"},
		{"168.63.129.16/32", "the metadata of a cloud"},
		{"192.0.0.0/24", "reserved for protocols, and the metadata of a cloud"},
		{"224.0.0.0/4", "multicast"},
		{"240.0.0.0/4", "reserved"},
		{"::/127", "loopback or unspecified"},
		{"::/96", "IPv4-compatible, which nobody uses"},
		{"64:ff9b:1::/48", "a local translation"},
		{"100::/64", "discard-only"},
		{"2001::/32", "Teredo"},
		{"fe80::/10", "link-local"},
		{"fec0::/10", "site-local"},
		{"fd00:ec2::254/128", "the metadata of a cloud"},
		{"fd20:ce::254/128", "the metadata of a cloud"},
		{"ff00::/8", "multicast"},
	} {
		if netip.MustParsePrefix(n.prefix).Contains(a) {
			return n.what
		}
	}
	return ""
}
