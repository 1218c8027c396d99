// Package sshprobe asks an SSH server which algorithms it offers: it reads the
// server's banner and its KEXINIT (RFC 4253, sections 4.2 and 7.1) and hangs up,
// before any key is exchanged. It says why a client that offers others cannot
// connect, which libssh2 and guacd do not.
package sshprobe

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"time"
)

// Bounds of what a server may send before its KEXINIT ends.
const (
	maxLines  = 50 // before the banner (RFC 4253 allows any number)
	maxLine   = 255
	maxPacket = 35_000 // RFC 4253, section 6.1
)

// ErrSilent: nothing that speaks SSH answered: no connection, no banner, or no
// KEXINIT in time.
var ErrSilent = errors.New("no SSH server answers")

// Algorithms are what one side offers, in its order of preference.
type Algorithms struct {
	Kex, HostKey []string
	// Cipher and MAC are for either direction: both sides offer the same ones for
	// both.
	Cipher, MAC []string
}

// Missing names the kind of algorithm of which a and b have none in common, with
// those of each side. It returns "" if there is nothing that keeps them apart.
func (a Algorithms) Missing(b Algorithms) (kind string, ofA, ofB []string) {
	for _, c := range []struct {
		kind string
		a, b []string
	}{
		{"host key algorithm", a.HostKey, b.HostKey},
		{"key exchange algorithm", a.Kex, b.Kex},
		{"cipher", a.Cipher, b.Cipher},
		{"MAC", a.MAC, b.MAC},
	} {
		if !slices.ContainsFunc(c.a, func(s string) bool { return slices.Contains(c.b, s) }) {
			return c.kind, c.a, c.b
		}
	}
	return "", nil, nil
}

// Ask connects to address (host:port) and returns what the server offers. An error
// wraps ErrSilent. Ask returns when ctx ends.
func Ask(ctx context.Context, address string) (Algorithms, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return Algorithms{}, fmt.Errorf("%w: %w", ErrSilent, err)
	}
	defer func() { _ = conn.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if _, err := io.WriteString(conn, "SSH-2.0-bp-relay\r\n"); err != nil {
		return Algorithms{}, fmt.Errorf("%w: %w", ErrSilent, err)
	}
	a, err := Read(conn)
	if err != nil {
		return a, fmt.Errorf("%w: %w", ErrSilent, err)
	}
	return a, nil
}

// Read reads one side's banner and KEXINIT.
func Read(r io.Reader) (Algorithms, error) {
	in := bufio.NewReaderSize(r, maxLine+1)
	for n := 0; ; n++ {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return Algorithms{}, fmt.Errorf("read the banner: %w", err)
		}
		if strings.HasPrefix(string(line), "SSH-") {
			break
		}
		if n == maxLines {
			return Algorithms{}, errors.New("no banner")
		}
	}
	var head [5]byte // length of the rest, length of the padding
	if _, err := io.ReadFull(in, head[:]); err != nil {
		return Algorithms{}, fmt.Errorf("read a packet: %w", err)
	}
	size, padding := binary.BigEndian.Uint32(head[:4]), uint32(head[4])
	if size > maxPacket || size < 1+padding {
		return Algorithms{}, errors.New("malformed packet")
	}
	body := make([]byte, size-1)
	if _, err := io.ReadFull(in, body); err != nil {
		return Algorithms{}, fmt.Errorf("read a packet: %w", err)
	}
	return parse(body[:size-1-padding])
}

// parse reads the payload of a KEXINIT: its number, a cookie of 16 bytes, and ten
// lists of names.
func parse(p []byte) (Algorithms, error) {
	const kexinit, cookie = 20, 16
	if len(p) < 1+cookie || p[0] != kexinit {
		return Algorithms{}, errors.New("the first packet is not a KEXINIT")
	}
	p = p[1+cookie:]
	var lists [6][]string
	for i := range lists {
		if len(p) < 4 || uint64(len(p)) < 4+uint64(binary.BigEndian.Uint32(p)) {
			return Algorithms{}, errors.New("a list of the KEXINIT is cut short")
		}
		n := binary.BigEndian.Uint32(p)
		lists[i] = names(p[4 : 4+n])
		p = p[4+n:]
	}
	return Algorithms{Kex: lists[0], HostKey: lists[1], Cipher: lists[2], MAC: lists[4]}, nil
}

// names splits a list. It leaves out what is not an algorithm but a signal, and
// what is not printable ASCII (section 6 of RFC 4251), since people read it.
func names(b []byte) []string {
	return slices.DeleteFunc(strings.Split(string(b), ","), func(s string) bool {
		return s == "" || len(s) > 64 || strings.HasPrefix(s, "ext-info-") || strings.HasPrefix(s, "kex-strict-") ||
			strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
	})
}
