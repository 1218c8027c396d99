package run_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/loadtest/internal/result"
	"github.com/openova-io/bp-relay/loadtest/internal/run"
	"github.com/openova-io/bp-relay/services/dev/stack/stacktest"
)

// inside is set in the process that has its own network namespace.
const inside = "RELAY_LOADTEST_NETNS"

// TestKernelLoss: the kernel drops media in a network namespace and counts it,
// and the loss attribution has the same numbers.
func TestKernelLoss(t *testing.T) {
	if os.Getenv(inside) != "" {
		kernelLoss(t)
		return
	}
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skip("the program ip (iproute2) is missing")
	}
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^TestKernelLoss$", "-test.v")
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	cmd.Stdout, cmd.Stderr = testWriter{t}, testWriter{t}
	wait, err := stacktest.StartChild(cmd)
	if os.Getuid() != 0 && err != nil {
		t.Skipf("only root may make a network namespace: %v", err)
	}
	require.NoError(t, err)
	require.NoError(t, wait())
}

// drops holds nftables rules that drop a share of the media, and their
// counters.
type drops struct {
	conn  *nftables.Conn
	table *nftables.Table
	chain *nftables.Chain
	rules map[string]*nftables.Rule
}

func newDrops() (*drops, error) {
	c, err := nftables.New()
	if err != nil {
		return nil, err
	}
	d := &drops{conn: c, rules: map[string]*nftables.Rule{}}
	d.table = c.AddTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: "loadtest"})
	d.chain = c.AddChain(&nftables.Chain{
		Name: "loss", Table: d.table, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityRaw,
	})
	return d, c.Flush()
}

// Offsets in the transport header, UDP.
const (
	sourcePort = 0
	destPort   = 2
	udpPayload = 8
)

// drop adds a rule for RTP packets (RFC 7983 section 7, RFC 5761 section 4: the
// first two bits are 2, and the payload type is 96 or more) from or to a port.
func (d *drops) drop(name string, port uint32, number uint16, of1000 uint32) {
	equal := func(offset, size uint32, mask, data []byte) []expr.Any {
		out := []expr.Any{&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: offset, Len: size}}
		if mask != nil {
			out = append(out, &expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: size, Mask: mask, Xor: make([]byte, size)})
		}
		return append(out, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: data})
	}
	all := []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{syscall.IPPROTO_UDP}},
	}
	all = append(all, equal(port, 2, nil, binary.BigEndian.AppendUint16(nil, number))...)
	all = append(all, equal(udpPayload, 2, []byte{0xe0, 0x60}, []byte{0x80, 0x60})...) // and no padding
	all = append(all,
		&expr.Numgen{Register: 1, Type: 1, Modulus: 1000}, // NFT_NG_RANDOM
		&expr.Byteorder{SourceRegister: 1, DestRegister: 1, Op: expr.ByteorderHton, Len: 4, Size: 4},
		&expr.Cmp{Op: expr.CmpOpLt, Register: 1, Data: binary.BigEndian.AppendUint32(nil, of1000)},
		&expr.Counter{}, &expr.Verdict{Kind: expr.VerdictDrop},
	)
	d.rules[name] = d.conn.AddRule(&nftables.Rule{Table: d.table, Chain: d.chain, Exprs: all, UserData: []byte(name)})
}

// remove deletes the rules and returns the number of packets that each dropped.
func (d *drops) remove() (map[string]int64, error) {
	rules, err := d.conn.GetRules(d.table, d.chain)
	if err != nil {
		return nil, err
	}
	out := map[string]int64{}
	for _, r := range rules {
		for _, e := range r.Exprs {
			if c, ok := e.(*expr.Counter); ok {
				out[string(r.UserData)] = int64(c.Packets)
			}
		}
	}
	d.conn.DelTable(d.table)
	return out, d.conn.Flush()
}

func kernelLoss(t *testing.T) {
	// Send the packets of a burst one by one, so that the rules see each.
	out, err := exec.CommandContext(t.Context(), "ip", "link", "set", "lo", "up", "gso_max_segs", "1").CombinedOutput()
	require.NoError(t, err, string(out))
	system := shared(t)
	const subscribers = 4
	s := parse(t, `
target: {local: true}
paths: [direct, turn-udp]
rooms: {count: 1, subscribers: 4}
nack: false
media:
  clip: 4s
  video: {codec: vp8, width: 640, height: 360, fps: 30, bitrate: 600kbps}
  audio: {bitrate: 32kbps}
load: {warmup: 3s, hold: 6s}
`)
	var receiving atomic.Int64
	var dropped map[string]int64
	o := run.Options{Scenario: s, SUT: system, Publish: func(r *result.Report) {
		receiving.Store(min(r.Total.Joins.FirstPacket.Count(), r.Total.Joins.FirstFrame.Count()))
	}}
	o.During = func(ctx context.Context, _ []string) error {
		for receiving.Load() < subscribers { // so that all of them lose the same packets
			select {
			case <-ctx.Done():
				return fmt.Errorf("only %d subscribers got media in time", receiving.Load())
			case <-time.After(20 * time.Millisecond):
			}
		}
		d, err := newDrops()
		if err != nil {
			return err
		}
		d.drop("up", destPort, mediaPort(system), 30)
		d.drop("down", sourcePort, mediaPort(system), 20)
		if err := d.conn.Flush(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
		case <-time.After(3 * time.Second):
		}
		dropped, err = d.remove()
		return err
	}
	rep := start(t, o)
	t.Log(dropped)
	direct, relayed := lostByHop(rep, "direct"), lostByHop(rep, "turn-udp")
	sum := func(hop string) int64 { return direct[hop] + relayed[hop] }
	require.Positive(t, dropped["up"])
	require.Positive(t, dropped["down"])
	require.Equal(t, subscribers*dropped["up"], sum(result.HopPublisher))
	require.Equal(t, dropped["down"], sum(result.HopSubscriber)+sum(result.HopOwnReceive))
	require.Zero(t, sum(result.HopResidual))
}

// mediaPort returns LiveKit's media port.
func mediaPort(system run.SUT) uint16 { return run.LiveKitOf(system).Media.Port() }
