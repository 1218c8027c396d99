package stack

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// Guard opens the loopback ports to this user only: connections of other users
// are refused. Many parts ask nobody who he is (guacd, health and metrics
// endpoints, profiles), and on a machine with several users "loopback only" is
// not closed. It is a rule of the kernel's packet filter, in a table of our own
// that vanishes with the Ports, and if this process is killed. Whoever called
// sudo keeps access. Without root, or in a kernel without nftables, the ports
// stay open to all; the error says so.
func (p *Ports) Guard(ports ...int) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.table == nil {
		t, err := newTable()
		if err != nil {
			return fmt.Errorf("stack: close loopback ports to other users: %w", err)
		}
		p.table = t
	}
	for _, n := range ports {
		if err := p.table.refuse(uint16(n), allowed()); err != nil {
			return fmt.Errorf("stack: close port %d to other users: %w", n, err)
		}
	}
	return nil
}

// Guard is [Ports.Guard] for ports of a part. That they stay open is logged.
func (e *Env) Guard(ctx context.Context, ports ...Port) {
	for _, p := range ports {
		if err := e.Ports.Guard(p.Number); err != nil {
			e.logger().WarnContext(ctx, "other users of this machine can reach a port", "address", "127.0.0.1:"+strconv.Itoa(p.Number), "purpose", p.Use, "error", err)
		}
	}
}

// allowed are the users that may connect: this one, and the one that called sudo.
func allowed() []uint32 {
	uids := []uint32{uint32(os.Geteuid())}
	if n, err := strconv.ParseUint(os.Getenv("SUDO_UID"), 10, 32); err == nil && uids[0] == 0 && n != 0 {
		uids = append(uids, uint32(n))
	}
	return uids
}

// table is a table of nftables that belongs to a netlink socket: the kernel
// removes it when the socket is closed (NFT_TABLE_F_OWNER, Linux 5.12). The
// messages are those of nft(8): linux/netfilter/nf_tables.h.
type table struct {
	socket int
	name   string
	lo     uint32
	seq    uint32
}

const (
	tableOwned    = 2 // NFT_TABLE_F_OWNER
	chainOut      = "out"
	rejectWithRST = 1 // NFT_REJECT_TCP_RST
)

func newTable() (*table, error) {
	lo, err := net.InterfaceByName("lo")
	if err != nil {
		return nil, err
	}
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, err
	}
	t := &table{socket: fd, name: "bp-relay-" + rand.Text()[:12], lo: uint32(lo.Index)}
	err = unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
	if err == nil {
		err = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 5})
	}
	if err == nil {
		err = t.commit(
			message{unix.NFT_MSG_NEWTABLE, 0, joined(text(unix.NFTA_TABLE_NAME, t.name), number(unix.NFTA_TABLE_FLAGS, tableOwned))},
			message{unix.NFT_MSG_NEWCHAIN, 0, joined(
				text(unix.NFTA_CHAIN_TABLE, t.name), text(unix.NFTA_CHAIN_NAME, chainOut), text(unix.NFTA_CHAIN_TYPE, "filter"),
				nested(unix.NFTA_CHAIN_HOOK, number(unix.NFTA_HOOK_HOOKNUM, unix.NF_INET_LOCAL_OUT), number(unix.NFTA_HOOK_PRIORITY, 0)),
			)},
		)
	}
	if err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	return t, nil
}

// refuse adds the rule: TCP to this port over loopback by none of the users.
func (t *table) refuse(port uint16, users []uint32) error {
	exprs := [][]byte{
		meta(unix.NFT_META_L4PROTO), compare(unix.NFT_CMP_EQ, []byte{unix.IPPROTO_TCP}),
		meta(unix.NFT_META_OIF), compare(unix.NFT_CMP_EQ, binary.NativeEndian.AppendUint32(nil, t.lo)),
		expr("payload", number(unix.NFTA_PAYLOAD_DREG, unix.NFT_REG_1), number(unix.NFTA_PAYLOAD_BASE, unix.NFT_PAYLOAD_TRANSPORT_HEADER),
			number(unix.NFTA_PAYLOAD_OFFSET, 2), number(unix.NFTA_PAYLOAD_LEN, 2)), // the destination port
		compare(unix.NFT_CMP_EQ, binary.BigEndian.AppendUint16(nil, port)),
		meta(unix.NFT_META_SKUID),
	}
	for _, uid := range users {
		exprs = append(exprs, compare(unix.NFT_CMP_NEQ, binary.NativeEndian.AppendUint32(nil, uid)))
	}
	exprs = append(exprs, expr("reject", number(unix.NFTA_REJECT_TYPE, rejectWithRST)))
	return t.commit(message{unix.NFT_MSG_NEWRULE, unix.NLM_F_APPEND, joined(
		text(unix.NFTA_RULE_TABLE, t.name), text(unix.NFTA_RULE_CHAIN, chainOut), nested(unix.NFTA_RULE_EXPRESSIONS, exprs...),
	)})
}

func (t *table) close() error { return unix.Close(t.socket) }

// message is one change of a batch.
type message struct {
	kind, flags uint16
	attributes  []byte
}

// commit sends the changes as one transaction and waits for their answers.
func (t *table) commit(changes ...message) error {
	var out []byte
	add := func(kind, flags uint16, family byte, resource uint16, attributes []byte) {
		t.seq++
		out = binary.NativeEndian.AppendUint32(out, uint32(unix.NLMSG_HDRLEN+4+len(attributes)))
		out = binary.NativeEndian.AppendUint16(out, kind)
		out = binary.NativeEndian.AppendUint16(out, unix.NLM_F_REQUEST|flags)
		out = binary.NativeEndian.AppendUint32(out, t.seq)
		out = binary.NativeEndian.AppendUint32(out, 0) // the kernel knows our port
		out = append(out, family, unix.NFNETLINK_V0)
		out = binary.BigEndian.AppendUint16(out, resource)
		out = append(out, attributes...)
	}
	add(unix.NFNL_MSG_BATCH_BEGIN, 0, unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES, nil)
	for _, m := range changes {
		add(unix.NFNL_SUBSYS_NFTABLES<<8|m.kind, unix.NLM_F_ACK|unix.NLM_F_CREATE|m.flags, unix.NFPROTO_INET, 0, m.attributes)
	}
	last := t.seq
	add(unix.NFNL_MSG_BATCH_END, 0, unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES, nil)
	if err := unix.Sendto(t.socket, out, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	return t.answers(last)
}

// answers reads until the change with this number is confirmed, or any is refused.
func (t *table) answers(last uint32) error {
	buf := make([]byte, 64<<10)
	for {
		n, _, err := unix.Recvfrom(t.socket, buf, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return err
		}
		for in := buf[:n]; len(in) >= unix.NLMSG_HDRLEN+4; {
			size := int(binary.NativeEndian.Uint32(in))
			if size < unix.NLMSG_HDRLEN+4 || size > len(in) {
				return unix.EBADMSG
			}
			if binary.NativeEndian.Uint16(in[4:]) == unix.NLMSG_ERROR {
				if no := int32(binary.NativeEndian.Uint32(in[unix.NLMSG_HDRLEN:])); no != 0 {
					return unix.Errno(-no)
				}
				if binary.NativeEndian.Uint32(in[8:]) == last {
					return nil
				}
			}
			in = in[min((size+3)&^3, len(in)):]
		}
	}
}

func meta(key uint32) []byte {
	return expr("meta", number(unix.NFTA_META_DREG, unix.NFT_REG_1), number(unix.NFTA_META_KEY, key))
}

func compare(op uint32, value []byte) []byte {
	return expr("cmp", number(unix.NFTA_CMP_SREG, unix.NFT_REG_1), number(unix.NFTA_CMP_OP, op),
		nested(unix.NFTA_CMP_DATA, attribute(unix.NFTA_DATA_VALUE, value)))
}

func expr(name string, data ...[]byte) []byte {
	return nested(unix.NFTA_LIST_ELEM, text(unix.NFTA_EXPR_NAME, name), nested(unix.NFTA_EXPR_DATA, data...))
}

func text(kind uint16, s string) []byte { return attribute(kind, append([]byte(s), 0)) }

func number(kind uint16, n uint32) []byte {
	return attribute(kind, binary.BigEndian.AppendUint32(nil, n))
}

func nested(kind uint16, in ...[]byte) []byte {
	return attribute(kind|unix.NLA_F_NESTED, joined(in...))
}

func attribute(kind uint16, value []byte) []byte {
	out := binary.NativeEndian.AppendUint16(nil, uint16(4+len(value)))
	out = binary.NativeEndian.AppendUint16(out, kind)
	out = append(out, value...)
	return append(out, make([]byte, (4-len(value)%4)%4)...)
}

func joined(in ...[]byte) []byte {
	var out []byte
	for _, b := range in {
		out = append(out, b...)
	}
	return out
}
