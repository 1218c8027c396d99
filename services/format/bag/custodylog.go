package bag

import (
	"fmt"

	"github.com/openova-io/bp-relay/services/format/leaf"
)

// Custody is a custody log that will be written into a bag. Its lines are in a
// spool; id and index of each are in memory, for its proof.
type Custody struct {
	spool   *Spool
	entries []entry
}

type entry struct {
	id    string
	index int64
}

// NewCustody returns an empty custody log with its spool in dir.
func NewCustody(dir string) (*Custody, error) {
	s, err := NewSpool(dir)
	if err != nil {
		return nil, err
	}
	return &Custody{spool: s}, nil
}

// Append adds a numbered leaf. Leaves must be added in the order of their
// index.
func (c *Custody) Append(l leaf.Leaf) error {
	if len(c.entries) >= MaxLines {
		return fmt.Errorf("the custody log has more than %d entries, which no verifier reads", MaxLines)
	}
	line, err := EncodeLine(l)
	if err != nil {
		return err
	}
	if _, err := c.spool.Write(line); err != nil {
		return err
	}
	c.entries = append(c.entries, entry{id: l.ID, index: l.Index})
	return nil
}

// Digest is the hex hash and the number of the lines so far, to which the entry
// about the export commits.
func (c *Custody) Digest() (sum string, lines int64) {
	return c.spool.SHA256(), int64(len(c.entries))
}

// Last is the id and the index of the last line. There must be one.
func (c *Custody) Last() (id string, index int64) {
	e := c.entries[len(c.entries)-1]
	return e.id, e.index
}

// Len is the number of lines.
func (c *Custody) Len() int { return len(c.entries) }

// Close deletes the spool.
func (c *Custody) Close() error { return c.spool.Close() }
