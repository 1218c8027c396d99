package bag

import "github.com/openova-io/bp-relay/services/store"

// Custody is a custody log on its way into a bag: the lines in a spool, and
// of each what its proof needs.
type Custody struct {
	spool   *Spool
	entries []entry
}

type entry struct {
	id    string
	index int64
}

// NewCustody makes an empty one with its spool in dir.
func NewCustody(dir string) (*Custody, error) {
	s, err := NewSpool(dir)
	if err != nil {
		return nil, err
	}
	return &Custody{spool: s}, nil
}

// Append adds a numbered leaf; they come in the order of their index.
func (c *Custody) Append(l store.Leaf) error {
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

// Digest is what the exported entry commits to: the hex hash and the number
// of the lines so far.
func (c *Custody) Digest() (sum string, lines int64) {
	return c.spool.SHA256(), int64(len(c.entries))
}

// Last is the id and the index of the last line.
func (c *Custody) Last() (id string, index int64) {
	e := c.entries[len(c.entries)-1]
	return e.id, e.index
}

// Len is the number of lines.
func (c *Custody) Len() int { return len(c.entries) }

// Close frees the spool.
func (c *Custody) Close() error { return c.spool.Close() }
