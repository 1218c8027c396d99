// Package address decides which addresses a session may dial. A name is resolved
// once, what it was resolved to is checked, and that address is dialled: a name
// that changes its mind in between changes nothing.
package address

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ErrRefused: the rules do not allow an address. Its text is for the operator's
// log: callers are told the same for every target that cannot be reached.
var ErrRefused = errors.New("address not allowed")

// resolveTimeout bounds the resolution of a name.
const resolveTimeout = 4 * time.Second

// Rules say what may be dialled. The zero value allows every address but those of
// this machine, of its links, and of a cloud's metadata.
type Rules struct {
	// Allow are the operator's exceptions, as Parse reads them. An exception with a
	// port also allows one of the product's own parts.
	Allow []Exception
	// Orgs are the allow-lists of organisations: an organisation that is here may
	// dial these addresses only. No list allows what only the operator may.
	Orgs map[string][]netip.Prefix
	// Own are the addresses of the product's own parts, host:port. They are refused
	// whatever they resolve to.
	Own []string
	// Lookup resolves a name; net.DefaultResolver's if nil.
	Lookup func(ctx context.Context, host string) ([]netip.Addr, error)
	// Local returns this machine's own addresses; those of its interfaces if nil.
	Local func() ([]netip.Addr, error)
}

// Exception is an address or a network that is allowed although it would be
// refused.
type Exception struct {
	Prefix netip.Prefix
	// Port is the only one that it is about; 0 means any, but none of the product's
	// own parts.
	Port uint16
}

// Parse reads an exception: "127.0.0.1", "10.0.0.0/8", "127.0.0.1:2222" or
// "[::1]:2222".
func Parse(text string) (Exception, error) {
	if at, err := netip.ParseAddrPort(text); err == nil {
		a := at.Addr().Unmap()
		return Exception{netip.PrefixFrom(a, a.BitLen()), at.Port()}, nil
	}
	if a, err := netip.ParseAddr(text); err == nil {
		a = a.Unmap()
		return Exception{Prefix: netip.PrefixFrom(a, a.BitLen())}, nil
	}
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return Exception{}, fmt.Errorf("%q: want an address, a network (10.0.0.0/8) or address:port", text)
	}
	return Exception{Prefix: p.Masked()}, nil
}

// Resolve resolves host for an organisation and returns the first address that it
// may dial at this port. An error wraps ErrRefused if none is allowed. It takes at
// most 4 s.
func (r *Rules) Resolve(ctx context.Context, org, host string, port uint16) (netip.Addr, error) {
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	found, err := r.lookup(ctx, host)
	if err != nil {
		return netip.Addr{}, err
	}
	var errs []error
	for _, a := range found {
		if a.Zone() != "" {
			errs = append(errs, fmt.Errorf("%w: it is of one link", ErrRefused))
			continue
		}
		a = a.Unmap()
		if err := r.check(ctx, org, a, port); err != nil {
			errs = append(errs, err)
			continue
		}
		return a, nil
	}
	if len(errs) == 0 {
		return netip.Addr{}, errors.New("the name has no address")
	}
	return netip.Addr{}, errors.Join(errs...)
}

// Literal reports why host can never be dialled, whatever the network says: it is
// an address that the rules refuse, or it is a number that some resolvers take for
// an address ("127.1", "2130706433", "0x7f.1"). A name passes.
func (r *Rules) Literal(org, host string) error {
	if a, is := literal(host); is {
		return r.network(org, a.Unmap(), 0)
	}
	if numeric(host) {
		return fmt.Errorf("%w: write it as four numbers", ErrRefused)
	}
	return nil
}

func literal(host string) (netip.Addr, bool) {
	a, err := netip.ParseAddr(host)
	return a, err == nil
}

// numeric reports whether the last label of a name is a number, which no name of
// the DNS has (RFC 3696, section 2), and which inet_aton reads as an address.
func numeric(host string) bool {
	host = strings.TrimSuffix(host, ".")
	label := strings.ToLower(host[strings.LastIndexByte(host, '.')+1:])
	_, hex := strings.CutPrefix(label, "0x")
	return hex || label != "" && strings.Trim(label, "0123456789") == ""
}

func (r *Rules) lookup(ctx context.Context, host string) ([]netip.Addr, error) {
	if a, is := literal(host); is {
		return []netip.Addr{a}, nil
	}
	if numeric(host) {
		return nil, fmt.Errorf("%w: a number in place of a name", ErrRefused)
	}
	find := r.Lookup
	if find == nil {
		find = func(ctx context.Context, host string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		}
	}
	found, err := find(ctx, host)
	if err != nil {
		return nil, fmt.Errorf("resolve: %w", err)
	}
	return found, nil
}

// check decides about one address.
func (r *Rules) check(ctx context.Context, org string, a netip.Addr, port uint16) error {
	if err := r.network(org, a, port); err != nil {
		return err
	}
	if r.allowsPart(a, port) {
		return nil
	}
	for _, own := range r.Own {
		at, p, err := net.SplitHostPort(own)
		if err != nil || p != strconv.Itoa(int(port)) {
			continue
		}
		list, err := r.lookup(ctx, at)
		if at == "" || errors.Is(err, ErrRefused) {
			list = nil
		} else if err != nil {
			return fmt.Errorf("%w: it may be one of the product's own parts: %w", ErrRefused, err)
		}
		if slices.ContainsFunc(list, func(o netip.Addr) bool { return o.Unmap().WithZone("") == a || o.IsUnspecified() && r.local(a) }) {
			return fmt.Errorf("%w: it is one of the product's own parts", ErrRefused)
		}
	}
	if r.local(a) && !r.allows(a, port) {
		return fmt.Errorf("%w: it is this machine", ErrRefused)
	}
	return nil
}

// network decides by the address alone. Port 0 stands for any.
func (r *Rules) network(org string, a netip.Addr, port uint16) error {
	for _, a := range inside(a) {
		if why := special(a); why != "" && !r.allows(a, port) {
			return fmt.Errorf("%w: it is %s", ErrRefused, why)
		}
	}
	if list, has := r.Orgs[org]; has && !slices.ContainsFunc(list, func(p netip.Prefix) bool { return p.Contains(a) }) {
		return fmt.Errorf("%w: it is not in the organisation's list", ErrRefused)
	}
	return nil
}

// allows reports whether an exception names the address; port 0 stands for any.
func (r *Rules) allows(a netip.Addr, port uint16) bool {
	return slices.ContainsFunc(r.Allow, func(e Exception) bool {
		return e.Prefix.Contains(a) && (e.Port == 0 || port == 0 || e.Port == port)
	})
}

// allowsPart reports whether an exception names the address with this port.
func (r *Rules) allowsPart(a netip.Addr, port uint16) bool {
	return slices.ContainsFunc(r.Allow, func(e Exception) bool { return e.Prefix.Contains(a) && e.Port == port })
}

// local reports whether an address is one of this machine's.
func (r *Rules) local(a netip.Addr) bool {
	if a.IsLoopback() || a.IsUnspecified() {
		return true
	}
	find := r.Local
	if find == nil {
		find = interfaces
	}
	list, err := find()
	return err != nil || slices.Contains(list, a) // what cannot be known is not allowed
}

func interfaces() ([]netip.Addr, error) {
	list, err := net.InterfaceAddrs()
	if err != nil {
		return nil, err
	}
	var out []netip.Addr
	for _, a := range list {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			out = append(out, p.Addr().Unmap().WithZone(""))
		}
	}
	return out, nil
}
