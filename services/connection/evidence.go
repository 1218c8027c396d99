package connection

import (
	"context"
	"fmt"

	"golang.org/x/crypto/ssh"

	"github.com/openova-io/bp-relay/services/format/bag"
	"github.com/openova-io/bp-relay/services/format/leaf"
	"github.com/openova-io/bp-relay/services/internal/change"
	"github.com/openova-io/bp-relay/services/internal/resource"
	"github.com/openova-io/bp-relay/services/records"
)

// targetEntry is the log's entry of where a session goes: its id, and what its
// body commits to.
type targetEntry struct{ entry, commit string }

// noteTarget writes the entry of where the session goes, before it goes there.
// Host and account can be personal: they are in the entry's opening, which can
// be erased, and the manifest has the commitment only. There is no event, for
// the same reason.
func (c *carrier) noteTarget(ctx context.Context) error {
	t := c.def.evidence()
	t.Capture = c.session.Capture
	l, err := change.Leaf(leaf.Act{Type: bag.TargetType, Org: resource.Org(c.name), Actor: c.subject, Subject: c.name, Detail: t})
	if err != nil {
		return err
	}
	b, _, err := leaf.Open(l.Body, l.Opening)
	if err != nil {
		return err
	}
	if err := c.s.cfg.Records.Update(ctx, func(tx records.Tx) error { return tx.Leaf(ctx, l) }); err != nil {
		return fmt.Errorf("write the leaf of the target: %w", err)
	}
	c.went = targetEntry{entry: l.ID, commit: b.Commit}
	return nil
}

// evidence is the definition's target as the log has it: without credentials.
func (d *definition) evidence() bag.Target {
	t := bag.Target{Protocol: d.protocol(), Host: d.SSH.Hostname, Port: int(d.SSH.Port), Account: d.SSH.Username}
	if key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(d.SSH.HostKey)); err == nil {
		t.HostKey = key.Type() + " " + ssh.FingerprintSHA256(key)
	}
	return t
}
