package change

import (
	"fmt"

	"github.com/google/uuid"

	"github.com/openova-io/bp-relay/services/format/leaf"
	"github.com/openova-io/bp-relay/services/records"
)

// Leaf makes the leaf of an act with a new id, for records.Tx.Leaf. Use Note
// if there is an event, too.
func Leaf(a leaf.Act) (records.Leaf, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return records.Leaf{}, fmt.Errorf("leaf id: %w", err)
	}
	l, err := leaf.New(id.String(), a)
	return records.Leaf(l), err
}
